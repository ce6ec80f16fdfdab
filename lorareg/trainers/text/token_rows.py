"""Dialogues as the token rows that are learned: what is too long is cut, left out or refused.

All of it is known before a weight is read: a row that teaches nothing is an error then, not a loss
of 0 or NaN later.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from lorareg.errors import LoraregError, TrainingError, listed
from lorareg.registry.text_training import TextTraining
from lorareg.trainers.data.dialogues import DialogueRecord
from lorareg.trainers.data.preference_rows import misfits, misfitting
from lorareg.trainers.text.chat import Chat, TokenRow

NAMED = 3  # records that a sentence names
TOO_LONG = "raise train.max_length, or set train.overlong: cut or drop"
NOTHING = "raise train.max_length, or shorten or delete these rows"


@dataclass(frozen=True)
class TokenRows:
    """What is learned of every record.

    Attributes:
        rows: record -> its sequences; of a preference pair the chosen one, then the rejected one.
        cut: records of which ``max_length`` left only the beginning.
        left_out: records that were longer, and are not learned.
        settings: of the manifest.
    """

    rows: dict[str, list[TokenRow]]
    cut: tuple[str, ...]
    left_out: tuple[str, ...]
    settings: TextTraining

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max((len(row.ids) for rows in self.rows.values() for row in rows), default=0)

    def learned(self, record: str) -> int:
        """Tokens of a record that are learned; of a pair those of the chosen answer."""
        rows = self.rows[record]
        return sum(len(row.learned) for row in (rows[:1] if self.settings.dpo else rows))

    def describe(self) -> list[str]:
        """How many dialogues, how much of them is learned, and what became of the long ones."""
        if not self.rows:
            return []
        counts = [self.learned(record) for record in self.rows]
        what = "preference pair" if self.settings.dpo else "dialogue"
        answers = "chosen answers" if self.settings.dpo else "responses"
        sentences = [
            f"{_counted(len(counts), what)}, {sum(counts):,} tokens of {answers} to learn: "
            f"{min(counts)} to {max(counts)} each, {median(counts):g} in the median"
        ]
        limit = f"longer than max_length {self.settings.max_length}"
        if self.cut:
            sentences.append(f"{_counted(len(self.cut), what)} {limit}, cut: {_named(self.cut)}")
        if self.left_out:
            count = _counted(len(self.left_out), what)
            sentences.append(f"{count} {limit}, left out: {_named(self.left_out)}")
        return sentences


def tokenize(chat: Chat, records: Sequence[DialogueRecord], settings: TextTraining) -> TokenRows:
    """Render and tokenize every record under the manifest's limits.

    Raises:
        TrainingError: names all records that the template refuses, that are too long where the
            manifest says so, or that teach nothing; or every record is left out.
    """
    rows: dict[str, list[TokenRow]] = {}
    cut, left_out = [], []
    problems: list[tuple[str, str]] = []
    for record in records:
        try:
            whole = chat.sequences(record, sys.maxsize)
        except LoraregError as error:
            problems.append((f"{record.id}: {error.what}", error.fix))
            continue
        longest = max(len(row.ids) for row in whole)
        if longest > settings.max_length and settings.overlong == "drop":
            left_out.append(record.id)
            continue
        kept = [row.shortened(settings.max_length) for row in whole]
        if problem := _problem(record, kept, longest, settings):
            problems.append(problem)
        elif longest > settings.max_length:
            cut.append(record.id)
        rows[record.id] = [row for row in kept if row.learned]
    if problems:
        raise TrainingError(
            f"{len(problems)} of {len(records)} dialogues cannot be learned",
            why="\n" + listed([line for line, _ in problems]),
            fix="; ".join(dict.fromkeys(fix for _, fix in problems)),
        )
    if left_out and not rows:
        raise _nothing_left(len(records), settings.max_length)
    return TokenRows(rows, tuple(cut), tuple(left_out), settings)


def check_pairs(records: Sequence[DialogueRecord], settings: TextTraining) -> None:
    """Refuse pairs where answers are learned, and plain dialogues where pairs are.

    Raises:
        TrainingError: names the rows.
    """
    pairs = settings.dpo is not None
    if rows := misfits(records, pairs=pairs):
        why, fix = misfitting(pairs)
        raise TrainingError(
            f"{len(rows)} of {len(records)} rows do not fit the kind of training",
            why=f"{why}:\n" + listed(list(rows)),
            fix=fix,
        )


def _problem(
    record: DialogueRecord, rows: Sequence[TokenRow], longest: int, settings: TextTraining
) -> tuple[str, str] | None:
    """What is wrong with a record, and what to do about it."""
    limit = settings.max_length
    if longest > limit and settings.overlong == "error":
        return f"{record.id}: {longest} tokens, more than max_length {limit}", TOO_LONG
    taught = [bool(row.learned) for row in rows]
    if not (all(taught) if record.rejected else any(taught)):
        return f"{record.id}: no token of a response is within max_length {limit}", NOTHING
    if record.rejected and rows[0].ids == rows[1].ids:
        return f"{record.id}: both answers are the same within max_length {limit}", NOTHING
    return None


def _nothing_left(records: int, limit: int) -> TrainingError:
    return TrainingError(
        "no dialogue is left to learn",
        why=f"all {records} are longer than max_length {limit}, and train.overlong is drop",
        fix="raise train.max_length, or set train.overlong: cut",
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _named(records: Sequence[str]) -> str:
    more = f" and {len(records) - NAMED} more" if len(records) > NAMED else ""
    return ", ".join(records[:NAMED]) + more
