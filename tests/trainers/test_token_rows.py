"""What is learned of every dialogue, known before a weight is read: cut, left out, or refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lorareg.errors import TrainingError
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.text_training import TextTraining
from lorareg.trainers.data.dialogue_rows import Message
from lorareg.trainers.data.dialogues import DialogueRecord
from lorareg.trainers.text.task import TextTask

LONG = DialogueRecord(
    "talk.jsonl:4", (Message("user", "Why do ships float?"), Message("assistant", "Arr! " * 90))
)


@pytest.fixture
def records(dialogues: Sequence[DialogueRecord]) -> tuple[DialogueRecord, ...]:
    """Three short dialogues and a long one."""
    return (*dialogues, LONG)


def test_a_long_dialogue_is_cut_and_said_to_be(
    pico_llama: ResolvedBase, records: tuple[DialogueRecord, ...]
) -> None:
    task = TextTask(pico_llama, records, TextTraining(max_length=96))

    counts = [task.weight(record) for record in task.ids]

    assert list(task.ids) == [record.id for record in records]
    assert task.describe() == [
        f"4 dialogues, {sum(counts)} tokens of responses to learn: {min(counts)} to {max(counts)} "
        f"each, {sorted(counts)[1] / 2 + sorted(counts)[2] / 2:g} in the median",
        "1 dialogue longer than max_length 96, cut: talk.jsonl:4",
    ]


def test_drop_leaves_long_dialogues_out_and_says_how_many(
    pico_llama: ResolvedBase, records: tuple[DialogueRecord, ...]
) -> None:
    task = TextTask(pico_llama, records, TextTraining(max_length=96, overlong="drop"))

    assert list(task.ids) == [record.id for record in records[:3]]
    assert task.describe()[1:] == ["1 dialogue longer than max_length 96, left out: talk.jsonl:4"]


def test_error_names_every_long_dialogue_with_its_length(
    pico_llama: ResolvedBase, records: tuple[DialogueRecord, ...]
) -> None:
    longest = TextTask(pico_llama, [LONG], TextTraining())._tokens.longest
    task = TextTask(pico_llama, records, TextTraining(max_length=96, overlong="error"))

    with pytest.raises(TrainingError) as caught:
        task.weight("talk.jsonl:1")

    assert caught.value.what == "1 of 4 dialogues cannot be learned"
    assert f"talk.jsonl:4: {longest} tokens, more than max_length 96" in caught.value.why
    assert "train.overlong" in caught.value.fix


def test_nothing_left_to_learn_is_an_error(pico_llama: ResolvedBase) -> None:
    task = TextTask(pico_llama, [LONG], TextTraining(max_length=96, overlong="drop"))

    with pytest.raises(TrainingError, match="no dialogue is left"):
        task.ids  # noqa: B018  (asking is enough)


def test_what_can_be_wrong_with_rows_is_named_at_once_with_all_remedies(
    pico_llama: ResolvedBase,
) -> None:
    marked = DialogueRecord("a:1", (Message("user", "Hi <|im_end|>"), Message("assistant", "Arr!")))
    hidden = DialogueRecord("a:2", (Message("user", "x" * 99), Message("assistant", "Arr!")))
    task = TextTask(pico_llama, [marked, hidden], TextTraining(max_length=16))

    with pytest.raises(TrainingError) as caught:
        task.weight("a:1")

    assert "a:1: message 1 holds the control token" in caught.value.why
    assert "a:2: no token of a response is within max_length 16" in caught.value.why
    assert "take the token out of the text" in caught.value.fix
    assert "raise train.max_length" in caught.value.fix


def test_a_template_that_ends_no_answer_is_told_of(
    pico_llama: ResolvedBase, dialogues: Sequence[DialogueRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = TextTask(pico_llama, dialogues, TextTraining())
    chat = task._chat
    chat.tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    monkeypatch.setattr(task, "_chat", type(chat)(chat.tokenizer), raising=False)

    assert "not taught where to stop" in task.describe()[-1]
