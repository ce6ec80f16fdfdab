"""Text generation: a causal language model learns the assistant's side of dialogues."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
import transformers

from lorareg.errors import LoraregError, TrainingError, listed
from lorareg.registry.base import ResolvedBase
from lorareg.registry.manifest import Lora
from lorareg.trainers.chat import Chat, TokenRow
from lorareg.trainers.data.dialogue_rows import Message
from lorareg.trainers.data.dialogues import DialogueRecord
from lorareg.trainers.language_model import dequantized_home, load_model, load_tokenizer
from lorareg.trainers.linear_targets import choose, linear_modules
from lorareg.trainers.randomness import Draws
from lorareg.trainers.response_loss import (
    Logits,
    collate,
    fastest_right_way,
    from_all_positions,
    sequence_losses,
)
from lorareg.trainers.tasks.base import Runtime, Sample


class TextTask:
    """The text-generation side of the shared core (protocol ``tasks.base.Task``).

    Records are tokenized on the first question about them, before any weight is read; a record
    with nothing to learn within ``max_length`` is an error then, not a NaN later.

    Attributes:
        max_length: tokens of a sequence that are kept, from its beginning.
        max_new_tokens: the most a sample says.
    """

    unit = "token"
    validation_rounds = 1  # nothing is drawn, so one look is enough

    def __init__(
        self,
        base: ResolvedBase,
        records: Sequence[DialogueRecord],
        max_length: int,
        max_new_tokens: int = 64,
    ) -> None:
        """Remember the dialogues; nothing is loaded yet."""
        self.ids = tuple(record.id for record in records)
        self.max_length = max_length
        self.max_new_tokens = max_new_tokens
        self._base = base
        self._tokenizer_home = base
        self._records = tuple(records)
        self._model: Any = None
        self._device = "cpu"
        self._logits: Logits = from_all_positions
        self._linear: list[str] = []
        self._head: str | None = None

    @property
    def template_digest(self) -> str:
        """Digest of the chat template, for the lock."""
        return self._chat.template_digest

    @property
    def template_source(self) -> str:
        """Where the chat template is from: "tokenizer" or "lorareg/plain-v1", for the lock."""
        return self._chat.template_source

    @property
    def cut(self) -> list[str]:
        """Records of which ``max_length`` left only the beginning."""
        return [record for record, rows in self._rows.items() if any(row.cut for row in rows)]

    def describe(self) -> list[str]:
        """How many dialogues, and how much of them is learned."""
        terms = sorted(self.weight(record) for record in self.ids)
        return [f"{len(terms)} dialogues, {sum(terms)} tokens of responses to learn"]

    def load(self, runtime: Runtime) -> Mapping[str, torch.nn.Module]:
        """Return the frozen language model; the dialogues are checked before it is read."""
        if self._base.layout == "gguf" and (home := dequantized_home(self._base, runtime)).is_dir():
            # a saved tokenizer loads ten times faster than one in a GGUF
            self._tokenizer_home = replace(self._base, layout="transformers", path=home)
        longest = max((len(row.ids) for rows in self._rows.values() for row in rows), default=0)
        model = load_model(self._base, runtime, self._chat.tokenizer, longest)
        context = getattr(model.config, "max_position_embeddings", None) or longest
        if longest > context:
            raise TrainingError(
                f"a dialogue has {longest} tokens, base {self._base.model} reads {context}",
                why=f"train.max_length is {self.max_length}",
                fix=f"set train.max_length to {context} or less in the manifest",
            )
        self._model, self._device = model, runtime.device
        self._linear = linear_modules(model)
        head = model.get_output_embeddings()
        self._head = next((name for name, part in model.named_modules() if part is head), None)
        self._logits = fastest_right_way(model, runtime.device)
        self._plain_generation()
        return {"": model}

    def targets(self, lora: Lora) -> list[str]:
        """Full names of the linear layers to adapt; see ``linear_targets.choose``."""
        return choose(self._linear, self._head, lora.targets)

    def shape(self, record: str) -> str:
        """Any dialogue may stand beside any other."""
        return ""

    def weight(self, record: str) -> int:
        """How many tokens of the record's responses are learned."""
        return sum(len(row.learned) for row in self._rows[record])

    def losses(
        self, records: Sequence[str], draws: Draws, fixed_round: int | None = None
    ) -> torch.Tensor:
        """Summed negative log-likelihood (nats) of each record's responses, (len(records),).

        Nothing is drawn here. In validation dropout, if the adapters have any, is off.
        """
        if fixed_round is not None:
            with _in_eval_mode(self._model):
                return self._losses(records)
        return self._losses(records)

    def sample(
        self, prompts: Sequence[str], seed: int, temperature: float | None = None
    ) -> list[Sample]:
        """Reply to each prompt as a first user message, the same way every time.

        Args:
            prompts: what the user says.
            seed: fixes the draws if there is a temperature; else it changes nothing.
            temperature: None for the likeliest token at every step; above 0 to draw tokens.
        """
        with _in_eval_mode(self._model), torch.no_grad():
            return [
                Sample(prompt, seed, self._reply(prompt, Draws(seed), temperature))
                for prompt in prompts
            ]

    @cached_property
    def _chat(self) -> Chat:
        return Chat(load_tokenizer(self._tokenizer_home))

    @cached_property
    def _rows(self) -> dict[str, list[TokenRow]]:
        """Every record's sequences.

        Raises:
            TrainingError: names all records that the template refuses or that teach nothing.
        """
        rows: dict[str, list[TokenRow]] = {}
        problems = []
        for record in self._records:
            try:
                found = self._chat.rows(record.messages, self.max_length)
            except LoraregError as error:
                problems.append(f"{record.id}: {error.what}")
                continue
            rows[record.id] = [row for row in found if row.learned]
            if not rows[record.id]:
                problems.append(
                    f"{record.id}: no token of a response is within max_length {self.max_length}"
                )
        if problems:
            raise TrainingError(
                f"{len(problems)} of {len(self._records)} dialogues cannot be learned",
                why="\n" + listed(problems),
                fix="raise train.max_length, or shorten or delete these rows",
            )
        return rows

    @property
    def _pad_id(self) -> int:
        tokenizer = self._chat.tokenizer
        return int(tokenizer.pad_token_id or tokenizer.eos_token_id or 0)

    def _losses(self, records: Sequence[str]) -> torch.Tensor:
        rows = [self._rows[record] for record in records]
        batch = collate([row for own in rows for row in own], self._pad_id, self._device)
        sequences = sequence_losses(self._model, self._logits, batch)
        return torch.stack(
            [own.sum() for own in torch.split(sequences, [len(own) for own in rows])]
        )

    def _plain_generation(self) -> None:
        """Drop the base's own habits (temperature, penalties); keep its stop tokens."""
        eos = self._model.generation_config.eos_token_id
        stops = {*self._chat.stop_ids, *([eos] if isinstance(eos, int) else eos or [])}
        self._model.generation_config = transformers.GenerationConfig(
            eos_token_id=sorted(stops) or None, pad_token_id=self._pad_id
        )

    def _reply(self, prompt: str, draws: Draws, temperature: float | None) -> str:
        ids = torch.tensor([self._chat.prompt_ids([Message("user", prompt)])], device=self._device)
        how: dict[str, Any] = {"do_sample": False}
        if temperature is not None:
            how = {"do_sample": True, "temperature": temperature, "top_k": 0}
        with _own_random_stream(draws.key("reply", prompt), self._device):
            said = self._model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=self.max_new_tokens,
                use_cache=True,
                **how,
            )
        text = self._chat.tokenizer.decode(said[0, ids.shape[1] :], skip_special_tokens=True)
        return str(text).strip()


@contextmanager
def _in_eval_mode(model: torch.nn.Module) -> Iterator[None]:
    """Dropout off; afterwards exactly those modules that were training train again."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _own_random_stream(seed: int, device: str) -> Iterator[None]:
    """Draws of ``generate`` depend on ``seed`` alone and leave torch's own stream where it was."""
    devices = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
