"""Preference pairs: their rows, the loss of DPO, and a reference that is asked once."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from transformers import AutoModelForCausalLM

from lorareg.errors import InvalidFileError, TrainingError
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.manifest import Lora
from lorareg.registry.text_training import Preferences, TextTraining
from lorareg.registry.training import Validation
from lorareg.trainers.adapters import inject
from lorareg.trainers.core.loop import Loop
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.data.dialogue_rows import Message, RowError
from lorareg.trainers.data.dialogues import DialogueRecord, read_dialogues
from lorareg.trainers.data.preference_rows import read_pair
from lorareg.trainers.data.records import of_dialogues
from lorareg.trainers.report import metrics
from lorareg.trainers.text import preferences
from lorareg.trainers.text.task import TextTask
from tests.trainers.pico_images import Notes

DRAWS = Draws(42).at("train", 0)
ASKED, GOOD, BAD = "Who are you?", "Arr! I be a pirate.", "I am a model."
USER, CHOSEN, REJECTED = (
    {"role": "user", "content": ASKED},
    {"role": "assistant", "content": GOOD},
    {"role": "assistant", "content": BAD},
)
HUMAN = {"from": "human", "value": ASKED}
SYSTEM = {"role": "system", "content": "Be a sailor."}
DPO = TextTraining(dpo=Preferences(beta=0.3), validation=Validation(share=0))


def record(number: int, asked: str, good: str, bad: str) -> DialogueRecord:
    question = Message("user", asked)
    return DialogueRecord(
        f"pairs.jsonl:{number}",
        (question, Message("assistant", good)),
        (question, Message("assistant", bad)),
    )


PAIRS = (
    record(1, ASKED, GOOD, BAD),
    record(2, "Tell me more.", "Ye sail the seven seas, matey!", "There is nothing to tell."),
    record(3, "Why do ships float?", "Aye.", "Because they weigh less than the water."),
)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": ASKED, "chosen": GOOD, "rejected": BAD},
        {"prompt": [USER], "chosen": [CHOSEN], "rejected": [REJECTED]},
        {"messages": [USER], "chosen": CHOSEN, "rejected": REJECTED},
        {"instruction": ASKED, "input": "", "chosen": GOOD, "rejected": BAD},
        {"question": ASKED, "chosen": GOOD, "rejected": BAD},
        {
            "conversations": [HUMAN],
            "chosen": {"from": "gpt", "value": GOOD},
            "rejected": {"from": "gpt", "value": BAD},
        },
        {"chosen": [USER, CHOSEN], "rejected": [USER, REJECTED]},
        {
            "prompt": ASKED,
            "messages": [USER, CHOSEN],
            "chosen": [USER, CHOSEN],
            "rejected": [USER, REJECTED],
            "score_chosen": 8.0,
        },
    ],
    ids=lambda row: "+".join(row),
)
def test_a_pair_in_any_of_the_usual_shapes_is_two_dialogues(row: Mapping[str, Any]) -> None:
    chosen, rejected = read_pair(row)

    assert chosen == (Message("user", ASKED), Message("assistant", GOOD))
    assert rejected == (Message("user", ASKED), Message("assistant", BAD))


def test_a_system_message_and_earlier_turns_stand_before_both_answers() -> None:
    before = [SYSTEM, USER, CHOSEN, {"role": "user", "content": "Tell me more."}]

    chosen, rejected = read_pair({"messages": before, "chosen": "Aye!", "rejected": "Yes."})

    assert [message.role for message in chosen] == ["system", "user", "assistant"] + [
        "user", "assistant",
    ]  # fmt: skip
    assert chosen[:-1] == rejected[:-1]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": ASKED, "chosen": GOOD}, "'rejected' is missing"),
        ({"chosen": GOOD, "rejected": BAD}, "there is no prompt"),
        ({"prompt": ASKED, "chosen": GOOD, "rejected": GOOD}, "nothing to prefer"),
        ({"prompt": ASKED, "chosen": GOOD, "rejected": " "}, "is empty"),
        ({"prompt": ASKED, "chosen": [USER], "rejected": [REJECTED]}, "does not end with"),
        ({"messages": [USER, CHOSEN], "chosen": GOOD, "rejected": BAD}, "two assistant messages"),
        ({"chosen": [USER, CHOSEN], "rejected": [REJECTED]}, "differ before their last"),
        (
            {"prompt": "Sing!", "chosen": [USER, CHOSEN], "rejected": [USER, REJECTED]},
            "the prompt says what",
        ),
    ],
)
def test_a_row_that_is_no_pair_is_refused_with_the_reason(row: dict[str, Any], why: str) -> None:
    with pytest.raises(RowError, match=why):
        read_pair(row)


def test_a_file_of_pairs_is_read_and_every_answer_counts_in_the_digest(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": ASKED, "chosen": GOOD, "rejected": bad} for bad in (BAD, "No.", BAD)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    records = read_dialogues(path)

    digests = of_dialogues(records)
    assert records[0].rejected[-1].content == BAD
    assert digests["pairs.jsonl:1"] == digests["pairs.jsonl:3"] != digests["pairs.jsonl:2"]


def test_a_broken_pair_is_named_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": ASKED, "chosen": GOOD}) + "\n", encoding="utf-8")

    with pytest.raises(InvalidFileError) as caught:
        read_dialogues(path)

    assert "pairs.jsonl:1: 'rejected' is missing" in caught.value.why


def log_likelihood(model: Any, task: TextTask, messages: Sequence[Message]) -> torch.Tensor:
    """Of the last answer, by transformers' own loss."""
    row = task._chat.answer(messages, 512)
    ids = torch.tensor([row.ids])
    labels = torch.full_like(ids, -100)
    labels[0, list(row.learned)] = ids[0, list(row.learned)]
    return -model(input_ids=ids, labels=labels).loss * len(row.learned)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("sft_weight", [0.0, 0.5])
def test_the_loss_is_the_formula_of_dpo(
    pico_llama: ResolvedBase, runtime: Runtime, sft_weight: float, packed: bool
) -> None:
    """Source: arXiv 2305.18290, equation 7; the second term is that of arXiv 2404.19733."""
    wanted = Preferences(beta=0.3, sft_weight=sft_weight)
    settings = DPO.model_copy(update={"dpo": wanted, "packing": packed})
    task = TextTask(pico_llama, PAIRS, settings)
    model = task.load(runtime)
    lora = Lora(rank=4, alpha=8, targets="all-linear")
    adapters = inject.inject(model, dict.fromkeys(task.targets(lora), 4), lora, Draws(0))
    with torch.no_grad():
        for name, parameter in adapters.named_parameters().items():
            parameter.copy_(Draws(5).normal(parameter.shape, name) * 0.1)
    base = AutoModelForCausalLM.from_pretrained(pico_llama.path)

    expected = []
    for pair in PAIRS:
        good, bad = (log_likelihood(model[""], task, m) for m in (pair.messages, pair.rejected))
        good_base, bad_base = (
            log_likelihood(base, task, m) for m in (pair.messages, pair.rejected)
        )
        odds = 0.3 * ((good - good_base) - (bad - bad_base))
        tokens = len(task._chat.answer(pair.messages, 512).learned)
        expected.append(-F.logsigmoid(odds) - sft_weight * good / tokens)

    torch.testing.assert_close(
        task.losses(task.ids, DRAWS), torch.stack(expected), rtol=1e-4, atol=1e-4
    )
    assert (task.unit, task.weight("pairs.jsonl:1")) == ("pair", 1)


def test_before_the_first_step_no_answer_is_preferred(
    pico_llama: ResolvedBase, runtime: Runtime
) -> None:
    task = TextTask(pico_llama, PAIRS, DPO)
    task.load(runtime)

    torch.testing.assert_close(task.losses(task.ids, DRAWS), torch.full((3,), math.log(2)))


def test_training_tells_the_answers_apart_and_logs_by_how_much(
    pico_llama: ResolvedBase, runtime: Runtime, tmp_path: Path
) -> None:
    settings = DPO.model_copy(
        update={"epochs": 10, "learning_rate": 5e-3, "validation": Validation(share=0.34)}
    )
    task = TextTask(pico_llama, PAIRS, settings)
    models = task.load(runtime)
    lora = Lora(rank=4, alpha=8)
    adapters = inject.inject(models, dict.fromkeys(task.targets(lora), 4), lora, Draws(0))

    loop = Loop(
        task, adapters, settings, runtime, tmp_path, Notes(),
        stop=lambda: False, sample=lambda step: None, sample_steps=0,
    )  # fmt: skip
    loop.run()

    logged = [row for row in metrics.read(tmp_path / "metrics.jsonl") if "reward_margin" in row]
    assert abs(logged[0]["reward_margin"]) < 1e-3
    assert all("validation_loss" in row for row in logged)
    with torch.no_grad():
        assert task.losses(loop.plan.train, DRAWS).max() < 0.3  # every margin is above 1
    measured = task.measured()
    assert measured["reward_accuracy"] == 1
    assert measured["reward_margin"] > 1
    assert task.measured() == {}


def test_the_base_is_asked_once_for_all_runs_and_again_when_it_is_another(
    pico_llama: ResolvedBase, runtime: Runtime
) -> None:
    told: list[tuple[str, int, int]] = []

    def load(base: ResolvedBase, records: Sequence[DialogueRecord]) -> list[tuple[str, int, int]]:
        told.clear()
        settings = DPO.model_copy(update={"dpo": Preferences(beta=0.1 * (1 + len(told)))})
        TextTask(base, records, settings, stage=lambda *stage: told.append(stage)).load(runtime)
        return told

    assert load(pico_llama, PAIRS)[-1] == ("asking the base alone", 6, 6)
    assert load(pico_llama, PAIRS) == []
    other = record(4, ASKED, GOOD, "No.")
    assert load(pico_llama, (*PAIRS, other)) == [("asking the base alone", 1, 1)]
    assert load(replace(pico_llama, digest="base-sha256-v1:00"), PAIRS)[-1][1:] == (6, 6)


def test_margins_are_what_the_model_prefers_more_than_the_base() -> None:
    losses, base = torch.tensor([3.0, 5.0, 4.0, 1.0]), torch.tensor([4.0, 4.0, 4.0, 4.0])

    assert preferences.margins(losses, base, beta=0.5).tolist() == [1.0, -1.5]


def test_pairs_without_dpo_and_dpo_without_pairs_are_refused_by_row(
    pico_llama: ResolvedBase, dialogues: Sequence[DialogueRecord]
) -> None:
    with pytest.raises(TrainingError) as pairs:
        TextTask(pico_llama, (*dialogues, PAIRS[0]), TextTraining())
    with pytest.raises(TrainingError) as plain:
        TextTask(pico_llama, (*dialogues, PAIRS[0]), DPO)

    assert "pairs.jsonl:1" in pairs.value.why
    assert "train.dpo: {beta: 0.1}" in pairs.value.fix
    assert "talk.jsonl:3" in plain.value.why
    assert "pairs.jsonl:1" not in plain.value.why


def test_answers_that_are_cut_to_the_same_are_refused(pico_llama: ResolvedBase) -> None:
    same = "Ye sail the seven seas! " * 9
    long = record(9, ASKED, f"{same}Arr!", f"{same}Aye!")
    task = TextTask(pico_llama, [long], DPO.model_copy(update={"max_length": 24}))

    with pytest.raises(TrainingError, match="both answers are the same within max_length 24"):
        task.describe()
