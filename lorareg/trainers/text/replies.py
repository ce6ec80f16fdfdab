"""Replies of a language model, the same every time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import transformers

from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.data.dialogue_rows import Message
from lorareg.trainers.text.chat import Chat


def without_habits(model: Any, chat: Chat, pad_id: int) -> None:
    """Drop the base's own habits (temperature, penalties); keep its stop tokens."""
    eos = model.generation_config.eos_token_id
    stops = {*chat.stop_ids, *([eos] if isinstance(eos, int) else eos or [])}
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=sorted(stops) or None, pad_token_id=pad_id
    )


def reply(model: Any, chat: Chat, prompt: str, draws: Draws, how: Mapping[str, Any]) -> str:
    """What the model says to a first message of the user.

    Args:
        model: in evaluation mode.
        chat: of its tokenizer.
        prompt: what the user says.
        draws: place of the draws.
        how: ``max_new_tokens``, ``do_sample`` and the like, for ``generate``.
    """
    device = model.get_input_embeddings().weight.device
    ids = torch.tensor([chat.prompt_ids([Message("user", prompt)])], device=device)
    with _own_random_stream(draws.key("reply", prompt), device):
        said = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True, **how
        )
    return str(chat.tokenizer.decode(said[0, ids.shape[1] :], skip_special_tokens=True)).strip()


@contextmanager
def in_eval_mode(model: torch.nn.Module) -> Iterator[None]:
    """Dropout off; afterwards exactly those modules that were training train again."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _own_random_stream(seed: int, device: torch.device) -> Iterator[None]:
    """Draws of ``generate`` depend on ``seed`` alone and leave torch's own stream where it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
