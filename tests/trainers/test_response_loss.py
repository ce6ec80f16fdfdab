"""The LM head on the learned positions only: which models allow it, and what the others get."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from transformers import AutoModelForCausalLM

from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.text_training import TextTraining
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.data.dialogues import DialogueRecord
from lorareg.trainers.text import response_loss
from lorareg.trainers.text.task import TextTask

DRAWS = Draws(42).at("train", 0)
Dialogues = Sequence[DialogueRecord]


def test_a_model_that_caps_its_logits_is_not_given_the_shortcut(
    pico_llama: ResolvedBase,
    pico_gpt2: ResolvedBase,
    pico_gemma2: ResolvedBase,
    dialogues: Dialogues,
    runtime: Runtime,
) -> None:
    def way(base: ResolvedBase) -> Callable[..., torch.Tensor]:
        model = TextTask(base, dialogues, TextTraining(max_length=128)).load(runtime)[""]
        return response_loss.fastest_right_way(model, "cpu")

    assert way(pico_llama) is response_loss.from_hidden_states
    assert way(pico_gpt2) is response_loss.from_hidden_states
    assert way(pico_gemma2) is response_loss.from_kept_positions


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_cap_is_noticed_even_where_it_changes_nothing_on_small_logits(
    pico_gemma2: ResolvedBase, dtype: torch.dtype
) -> None:
    model = AutoModelForCausalLM.from_pretrained(pico_gemma2.path, dtype=dtype)
    model.config.final_logit_softcapping = 50.0
    model.lm_head.weight.data.mul_(1e-3)

    way = response_loss.fastest_right_way(model, "cpu")

    assert way is response_loss.from_kept_positions


@pytest.mark.parametrize(
    "way", [response_loss.from_kept_positions, response_loss.from_all_positions]
)
def test_the_slower_ways_give_the_same_loss(
    pico_llama: ResolvedBase,
    dialogues: Dialogues,
    runtime: Runtime,
    way: response_loss.Logits,
) -> None:
    task = TextTask(pico_llama, dialogues, TextTraining(max_length=128))
    model = task.load(runtime)[""]
    rows = [row for record in task.ids for row in task._tokens.rows[record]]
    batch = response_loss.collate(rows, 0, "cpu")

    torch.testing.assert_close(
        response_loss.sequence_losses(model, way, batch), task.losses(task.ids, DRAWS)
    )


def test_batches_are_padded_to_a_multiple_of_eight(
    pico_llama: ResolvedBase, dialogues: Dialogues
) -> None:
    task = TextTask(pico_llama, dialogues, TextTraining(max_length=128))
    rows = [task._tokens.rows[record][0] for record in task.ids]

    batch = response_loss.collate(rows, 0, "cpu")

    assert batch.ids.shape[1] % 8 == 0
    assert 0 <= batch.ids.shape[1] - max(len(row.ids) for row in rows) < 8
