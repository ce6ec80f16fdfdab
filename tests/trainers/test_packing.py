"""Packing: rows share a sequence, see only themselves, and have the loss they have alone."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, inject_adapter_in_model
from transformers import (
    AutoModelForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
)
from transformers.masking_utils import causal_mask_function

from lorareg.errors import TrainingError
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.manifest import Lora
from lorareg.registry.text_training import TextTraining
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.data.dialogues import DialogueRecord
from lorareg.trainers.text import packing, segment_attention
from lorareg.trainers.text.chat import TokenRow
from lorareg.trainers.text.packing import Packing, best_fit
from lorareg.trainers.text.response_loss import collate, fastest_right_way, sequence_losses
from lorareg.trainers.text.task import TextTask
from tests.trainers.pico_families import FAMILIES, WIDTH, Bases

DRAWS = Draws(42).at("train", 0)
CAPACITY = 64
Dialogues = Sequence[DialogueRecord]
LENGTHS = st.lists(st.integers(2, CAPACITY), min_size=1, max_size=7)


def token_rows(lengths: Sequence[int]) -> list[TokenRow]:
    """Rows of these lengths, the second half of each learned."""
    generator = torch.Generator().manual_seed(sum(lengths))
    return [
        TokenRow(
            tuple(torch.randint(3, 350, (length,), generator=generator).tolist()),
            tuple(range(max(1, length // 2), length)),
            cut=False,
        )
        for length in lengths
    ]


def adapted(base: ResolvedBase, packed: str | None) -> tuple[torch.nn.Module, Packing | None]:
    """The base with adapters, its attention as ``packed`` has it."""
    model = AutoModelForCausalLM.from_pretrained(base.path).requires_grad_(False).eval()
    chosen = None
    if packed == "segments":
        chosen = packing.choose(model, Runtime("cpu", "float32", 1, base.path), CAPACITY)
    elif packed:
        chosen = Packing("mask", CAPACITY)
    torch.manual_seed(5)
    inject_adapter_in_model(
        LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False), model
    )
    return model, chosen


def measured(
    model: torch.nn.Module, chosen: Packing | None, rows: Sequence[TokenRow]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses of the rows, and all gradients in one vector."""
    model.zero_grad()
    way = fastest_right_way(model, "cpu")
    batch = chosen.collate(rows, 0, "cpu") if chosen else collate(rows, 0, "cpu")
    losses = sequence_losses(model, way, batch)
    losses.sum().backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return losses.detach(), torch.cat(gradients)


@pytest.mark.parametrize(
    ("family", "way"),
    [(family, "segments") for family in FAMILIES]
    + [(family, "mask") for family in ("llama", "gemma2", "gemma3", "gpt2")],
)
def test_packed_rows_have_the_loss_and_gradients_of_padded_ones(
    bases: Bases, family: str, way: str
) -> None:
    padded, packed = adapted(bases(family), None), adapted(bases(family), way)

    @settings(derandomize=True, max_examples=4, deadline=None)
    @given(lengths=LENGTHS)
    def holds(lengths: list[int]) -> None:
        rows = token_rows(lengths)
        losses, gradients = measured(*packed, rows)
        expected_losses, expected = measured(*padded, rows)

        torch.testing.assert_close(losses, expected_losses, rtol=1e-6, atol=1e-5)
        assert (gradients - expected).norm() <= 1e-5 * expected.norm()

    holds()


@given(lengths=LENGTHS)
@settings(derandomize=True, max_examples=100, deadline=None)
def test_best_fit_puts_every_row_in_one_sequence_that_it_fits(lengths: list[int]) -> None:
    bins = best_fit(lengths, CAPACITY)

    assert sorted(row for chosen in bins for row in chosen) == list(range(len(lengths)))
    loads = [sum(lengths[row] for row in chosen) for chosen in bins]
    assert all(load <= CAPACITY for load in loads)
    assert all(one + other > CAPACITY for one in loads for other in loads if one is not other)


def test_on_the_cpu_no_more_is_padded_than_up_to_a_multiple_of_eight() -> None:
    batch = Packing("segments", CAPACITY).collate(token_rows([30, 7, 50, 22]), 0, "cpu")

    assert batch.ids.shape == (1, 112)
    assert batch.segments == (30, 7, 50, 22, 3)
    assert batch.places is not None
    assert batch.places[0].tolist() == [p for n in batch.segments for p in range(n)]


def test_with_a_block_mask_rows_go_best_fit_into_sequences_of_max_length() -> None:
    batch = Packing("mask", CAPACITY).collate(token_rows([30, 7, 50, 22]), 0, "cpu")

    assert batch.ids.shape == (2, 64)
    assert batch.sequences.tolist() == [1] * (15 + 4) + [0] * 25 + [1] * 11  # 50, and 30 + 22 + 7


def test_a_task_that_packs_learns_what_one_that_pads_learns(
    bases: Bases, dialogues: Dialogues, runtime: Runtime
) -> None:
    base = bases("llama")
    settings = TextTraining(max_length=128)
    padded = TextTask(base, dialogues, settings)
    packed = TextTask(base, dialogues, settings.model_copy(update={"packing": True}))
    padded.load(runtime)
    packed.load(runtime)

    torch.testing.assert_close(
        packed.losses(packed.ids, DRAWS), padded.losses(padded.ids, DRAWS), rtol=1e-6, atol=1e-5
    )
    assert packed.sample(["Who are you?"], 0) == padded.sample(["Who are you?"], 0)


def test_in_half_precision_short_rows_take_plain_products_and_long_ones_fused_attention() -> None:
    short = segment_attention.PLAIN_ATTENTION_TOKENS
    asked = {
        "config": SimpleNamespace(_attn_implementation=segment_attention.NAME + "sdpa"),
        "mask_function": causal_mask_function,
        "device": torch.device("cpu"),
    }

    with segment_attention.of_lengths((short, short + 1)):
        half = segment_attention.segment_masks(**asked, dtype=torch.bfloat16)
        full = segment_attention.segment_masks(**asked, dtype=torch.float32)

    assert half.ways == ("eager", "sdpa")
    assert full.ways == ("sdpa", "sdpa")
    assert full.masks == (None, None)  # causal without a mask, which is the fast way


@pytest.mark.parametrize(
    ("kind", "why"), [("lfm2", "something besides attention"), ("mamba", "takes no position ids")]
)
def test_a_model_that_mixes_tokens_outside_of_attention_is_refused(
    runtime: Runtime, kind: str, why: str
) -> None:
    torch.manual_seed(2)
    layers = ["conv", "full_attention"]
    model = (
        Lfm2ForCausalLM(Lfm2Config(**WIDTH, layer_types=layers))
        if kind == "lfm2"
        else MambaForCausalLM(MambaConfig(vocab_size=400, hidden_size=48, num_hidden_layers=1))
    )

    with pytest.raises(TrainingError) as caught:
        packing.choose(model.eval(), runtime, CAPACITY)

    assert why in caught.value.why
    assert caught.value.fix == "set train.packing: false"


def test_targets_of_a_packed_base_are_those_of_the_padded_one(
    bases: Bases, dialogues: Dialogues, runtime: Runtime
) -> None:
    task = TextTask(bases("gemma3"), dialogues[:1], TextTraining(packing=True))
    task.load(runtime)

    assert len(task.targets(Lora(targets="all-linear"))) == 14
