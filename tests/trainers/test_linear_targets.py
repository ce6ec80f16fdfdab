"""Which layers get adapters."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lorareg.errors import TrainingError
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.manifest import Lora
from lorareg.registry.text_training import TextTraining
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.data.dialogues import DialogueRecord
from lorareg.trainers.text.task import TextTask

Dialogues = Sequence[DialogueRecord]


def test_presets_choose_by_place_and_never_the_head(
    pico_llama: ResolvedBase, pico_gpt2: ResolvedBase, dialogues: Dialogues, runtime: Runtime
) -> None:
    def chosen(base: ResolvedBase, preset: str) -> set[str]:
        task = TextTask(base, dialogues, TextTraining(max_length=128))
        task.load(runtime)
        return {name.rpartition(".")[2] for name in task.targets(Lora(targets=preset))}

    attention = {"q_proj", "k_proj", "v_proj", "o_proj"}
    everything = attention | {"gate_proj", "up_proj", "down_proj"}
    assert chosen(pico_llama, "attention") == attention
    assert chosen(pico_llama, "attention+ff") == everything
    assert chosen(pico_llama, "all-linear") == everything
    assert chosen(pico_gpt2, "attention") == {"c_attn", "c_proj"}
    assert chosen(pico_gpt2, "all-linear") == {"c_attn", "c_proj", "c_fc"}


def test_targets_are_full_names_of_modules(
    pico_llama: ResolvedBase, dialogues: Dialogues, runtime: Runtime
) -> None:
    task = TextTask(pico_llama, dialogues, TextTraining(max_length=128))
    task.load(runtime)

    assert task.targets(Lora(targets=("1.mlp.up_proj", "lm_head"))) == [
        "model.layers.1.mlp.up_proj",
        "lm_head",
    ]


def test_a_target_that_matches_nothing_names_what_there_is(
    pico_llama: ResolvedBase, dialogues: Dialogues, runtime: Runtime
) -> None:
    task = TextTask(pico_llama, dialogues, TextTraining(max_length=128))
    task.load(runtime)

    with pytest.raises(TrainingError) as caught:
        task.targets(Lora(targets=("q_proj", "c_attn")))

    assert "c_attn" in caught.value.what
    assert "q_proj (2)" in caught.value.why
    assert "lm_head (1)" in caught.value.why
