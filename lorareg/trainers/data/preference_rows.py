"""One row of a preference dataset -> the dialogue with the better answer, and with the worse one.

=================================  ===========================================================
shape (who uses it)                row
=================================  ===========================================================
prompt and two answers (TRL)       ``{"prompt": ..., "chosen": ..., "rejected": ...}``
messages and two answers           ``{"messages": [...], "chosen": ..., "rejected": ...}``
ShareGPT (LLaMA-Factory)           ``{"conversations": [...], "chosen": ..., "rejected": ...}``
alpaca (LLaMA-Factory)             ``{"instruction": ..., "chosen": ..., "rejected": ...}``
two dialogues (UltraFeedback)      ``{"chosen": [...], "rejected": [...]}``
=================================  ===========================================================

An answer is text, a message, or a list of messages in either spelling (role/content, from/value).
Two dialogues say the same up to their last answers; a prompt beside them is part of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lorareg.trainers.data.dialogue_rows import (
    Message,
    RowError,
    dialogue,
    messages_of,
    object_of,
    prompt_of,
)

if TYPE_CHECKING:
    from lorareg.trainers.data.dialogues import DialogueRecord

ANSWERS = ("chosen", "rejected")
PAIR = 'write {"prompt": ..., "chosen": "the better answer", "rejected": "the worse one"}'
Dialogue = tuple[Message, ...]


def is_pair(row: object) -> bool:
    """Whether a row holds answers to prefer and to avoid; a mark such as ``true`` is none."""
    return isinstance(row, dict) and any(isinstance(row.get(k), str | list | dict) for k in ANSWERS)


def read_pair(value: object) -> tuple[Dialogue, Dialogue]:
    """The dialogue with the chosen answer, and the same with the rejected one.

    >>> chosen, rejected = read_pair({"prompt": "Hi", "chosen": "Arr!", "rejected": "Hello."})
    >>> chosen[-1].content, rejected[-1].content, chosen[0] == rejected[0]
    ('Arr!', 'Hello.', True)

    Raises:
        RowError: an answer is missing or blank, there is no prompt, or the two dialogues differ in
            more than their last answers.
    """
    row = object_of(value)
    chosen, rejected = (_answer(row, key) for key in ANSWERS)
    before = _before(row, chosen, rejected)
    if chosen[-1] == rejected[-1]:
        raise RowError(
            "chosen and rejected say the same, so there is nothing to prefer",
            "no-preference",
            fix="make them differ, or delete the row",
        )
    return dialogue(row, [*before, chosen[-1]]), dialogue(row, [*before, rejected[-1]])


def misfits(records: Sequence[DialogueRecord], *, pairs: bool) -> tuple[str, ...]:
    """Rows that are no preference pairs where training wants pairs, or pairs where it does not."""
    return tuple(record.id for record in records if bool(record.rejected) is not pairs)


def misfitting(pairs: bool) -> tuple[str, str]:
    """Why such rows cannot be learned, and what to do."""
    if pairs:
        return "no preference pair, and train.dpo learns from pairs only", (
            f"{PAIR}, or take train.dpo out of the manifest"
        )
    return "a preference pair, and train.dpo is not set", (
        "set train.dpo: {beta: 0.1}, or write the better answer alone, as the response"
    )


def _answer(row: dict[str, object], key: str) -> list[Message]:
    """Messages of one side; a lone answer is one message of the assistant."""
    said = row.get(key)
    if said is None:
        raise RowError(f"{key!r} is missing beside the other answer", "no-preference", fix=PAIR)
    if isinstance(said, str):
        said = {"role": "assistant", "content": said}
    messages = messages_of([said] if isinstance(said, dict) else said, key)
    if not messages or messages[-1].role != "assistant":
        raise RowError(f"{key} does not end with an answer of the assistant", "no-response")
    return messages


def _before(
    row: dict[str, object], chosen: list[Message], rejected: list[Message]
) -> list[Message]:
    """What both answers answer."""
    prompt = prompt_of(row)
    if len(chosen) == len(rejected) == 1:
        if not prompt:
            raise RowError("there is no prompt that they answer", "no-preference", fix=PAIR)
        return prompt
    if chosen[:-1] != rejected[:-1]:
        raise RowError(
            "chosen and rejected differ before their last answers",
            "no-preference",
            fix="let both say the same up to the last answer of the assistant",
        )
    said = {message.content.strip() for message in chosen}
    if any(message.content.strip() not in said for message in prompt):
        raise RowError(
            "the prompt says what the dialogues in chosen and rejected do not",
            "no-preference",
            fix="put it into both dialogues, or take it out of the row",
        )
    return chosen[:-1]
