"""The LM head in chunks: the loss and the gradients of the plain way, without its logits."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, inject_adapter_in_model

from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.manifest import Lora
from lorareg.registry.text_training import TextTraining
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.data.dialogues import DialogueRecord
from lorareg.trainers.text import head_chunks
from lorareg.trainers.text.task import TextTask

DRAWS = Draws(42).at("train", 0)
WIDTH = 16
Dialogues = Sequence[DialogueRecord]


def head_of(vocabulary: int, dtype: torch.dtype = torch.float32) -> torch.nn.Linear:
    torch.manual_seed(4)
    return torch.nn.Linear(WIDTH, vocabulary, bias=False, dtype=dtype).requires_grad_(False)


@settings(derandomize=True, max_examples=12, deadline=None)
@given(
    rows=st.integers(1, 200),
    vocabulary=st.sampled_from([5, 97, 1 << 16]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    scale=st.floats(1e-3, 10),
)
def test_loss_and_gradient_are_those_of_cross_entropy(
    rows: int, vocabulary: int, dtype: torch.dtype, scale: float
) -> None:
    head = head_of(vocabulary, dtype)
    torch.manual_seed(rows)
    states = torch.randn(rows, WIDTH, dtype=dtype)
    targets, weights = torch.randint(vocabulary, (rows,)), torch.rand(rows) * scale
    ours, theirs = (states.clone().requires_grad_() for _ in range(2))

    losses = head_chunks.token_losses(head, ours, targets, vocabulary)
    expected = F.cross_entropy(head(theirs).float(), targets, reduction="none")
    (losses * weights).sum().backward()
    (expected * weights).sum().backward()

    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(losses, expected, rtol=tolerance, atol=tolerance)
    assert ours.grad is not None
    assert theirs.grad is not None
    apart = (ours.grad - theirs.grad).float().norm() / theirs.grad.float().norm()
    assert apart <= tolerance


def test_no_more_logits_are_held_than_a_chunk_has() -> None:
    seen: list[int] = []
    head = head_of(1 << 16)
    head.register_forward_hook(lambda _, inputs, output: seen.append(output.numel()))
    states, targets = torch.randn(200, WIDTH, requires_grad=True), torch.zeros(200, dtype=int)

    head_chunks.token_losses(head, states, targets, 1 << 16).sum().backward()

    assert sum(seen) == 200 << 16
    assert max(seen) == head_chunks.CHUNK_LOGITS


def test_without_a_gradient_to_make_only_losses_are_made() -> None:
    head, states, targets = head_of(97), torch.randn(7, WIDTH), torch.zeros(7, dtype=int)

    losses = head_chunks.token_losses(head, states, targets, 97)

    torch.testing.assert_close(losses, F.cross_entropy(head(states), targets, reduction="none"))
    assert not losses.requires_grad


def test_chunks_are_for_many_logits_and_a_head_that_learns_nothing() -> None:
    vocabulary = 49_152
    frozen, trained = head_of(8), torch.nn.Linear(WIDTH, 8)

    assert head_chunks.pays(frozen, 1024, vocabulary)
    assert not head_chunks.pays(frozen, 512, vocabulary)  # tone/pirate: 4 rows of 128 tokens
    assert not head_chunks.pays(trained, 1024, vocabulary)


@pytest.mark.parametrize("targets", ["attention", "all-linear", ("down_proj", "lm_head")])
def test_adapters_anywhere_get_the_gradients_of_the_plain_way(
    pico_llama: ResolvedBase,
    dialogues: Dialogues,
    runtime: Runtime,
    targets: str | tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = TextTask(pico_llama, dialogues, TextTraining(max_length=128))
    model = task.load(runtime)[""]
    torch.manual_seed(3)
    names = task.targets(Lora(targets=targets))
    inject_adapter_in_model(LoraConfig(r=4, target_modules=names, init_lora_weights=False), model)

    def found() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        model.zero_grad()
        losses = task.losses(task.ids, DRAWS)
        (losses.sum() / 50).backward()
        return losses.detach(), {
            n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None
        }

    monkeypatch.setattr(head_chunks, "CHUNK_LOGITS", 350 * 4)
    monkeypatch.setattr(head_chunks, "FEWEST_ROWS", 1)
    plain_losses, plain = found()
    monkeypatch.setattr(head_chunks, "PAYS_FROM", 1)
    losses, gradients = found()

    torch.testing.assert_close(losses, plain_losses)
    assert gradients.keys() == plain.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, plain[name], rtol=1e-4, atol=1e-6, msg=name)
