"""Turns that say the same: duplicates, near-duplicates, leakage, and contradictory answers.

A turn is a question with its answer. Texts are near-duplicates if the sets of their four-character
pieces overlap by 0.8 (Jaccard) and their numbers are the same; pieces of characters need no spaces
between words, so Chinese is compared like English. Candidates come from MinHash and locality-
sensitive hashing, so time grows with the number of turns, not with its square.

Source: Broder 1997, "On the resemblance and containment of documents"; Leskovec, Rajaraman, Ullman,
"Mining of Massive Datasets", chapter 3.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lorareg.trainers.data.check.findings import Finding
from lorareg.trainers.data.check.resemblance import Resemblance, plain, similarity
from lorareg.trainers.data.dialogues import DialogueRecord

Stage = Callable[[str, int, int], None]
ANSWERS = 0.5  # similarity of the answers alone
SHORT = 24  # letters; a shorter turn among others ("Thanks!" "You're welcome.") may come again


@dataclass(frozen=True)
class Turn:
    """A question and its answer.

    Attributes:
        record: the row they are in.
        context: all that was said before the answer.
    """

    record: str
    context: str
    asked: str
    answer: str

    @property
    def text(self) -> str:
        """What is compared."""
        return f"{self.asked}\n{self.answer}"


def findings(
    records: Sequence[DialogueRecord], held_out: Collection[str], stage: Stage
) -> Iterator[Finding]:
    """What turns have in common, each group of them once.

    Args:
        records: dialogues.
        held_out: those that training only measures on.
        stage: told how many turns are compared.
    """
    turns = [turn for record in records for turn in _compared(record)]
    order = {record.id: number for number, record in enumerate(records)}
    groups = _groups(turns, stage)
    for group in groups:
        rows = tuple(sorted({turns[i].record for i in group}, key=order.__getitem__))
        exact = len({_squeezed(turns[i].text) for i in group}) == 1
        yield _repeated(rows, exact, len(group), held_out, _least([turns[i].text for i in group]))
    says = {number: group[0] for group in groups for number in group}
    yield from _contradictions(turns, says, order)


def turns_of(record: DialogueRecord) -> Iterator[Turn]:
    """The questions of a dialogue with their answers."""
    context, asked = "", ""
    for message in record.messages:
        context = f"{context}\n{message.role}: {_squeezed(message.content)}"
        if message.role == "user":
            asked = message.content
        elif message.role == "assistant":
            yield Turn(record.id, context.rpartition("\nassistant: ")[0], asked, message.content)


def _compared(record: DialogueRecord) -> list[Turn]:
    turns = list(turns_of(record))
    return turns if len(turns) == 1 else [t for t in turns if len(plain(t.text)) >= SHORT]


def _groups(turns: Sequence[Turn], stage: Stage) -> list[list[int]]:
    """Positions of turns that say the same, exactly or nearly; only groups of two or more."""
    first: dict[str, int] = {}
    root = list(range(len(turns)))
    seen = Resemblance()
    for number, turn in enumerate(turns):
        root[number] = first.setdefault(_squeezed(turn.text), number)
        if root[number] == number:
            for other in seen.find_and_add(number, turn.text):
                # a long question makes "Yes." and "No." alike
                if similarity(turn.answer, turns[other].answer) >= ANSWERS:
                    root[_root(root, number)] = _root(root, other)
        stage("comparing turns", number + 1, len(turns))
    groups = defaultdict(list)
    for number in range(len(turns)):
        groups[_root(root, number)].append(number)
    return [group for group in groups.values() if len(group) > 1]


def _root(root: list[int], number: int) -> int:
    while root[number] != number:
        root[number] = root[root[number]]
        number = root[number]
    return number


def _repeated(
    rows: tuple[str, ...], exact: bool, turns: int, held_out: Collection[str], least: float
) -> Finding:
    how = "the same" if exact else f"nearly the same ({least:.2f} alike)"
    if len(rows) == 1:
        why = f"{turns} turns of this row say {how}"
        return Finding("repeated-turn", "warning", rows, why, "delete the repetition")
    measured = [row for row in rows if row in held_out]
    if measured and len(measured) < len(rows):
        why = f"{how}, on both sides of the split: {', '.join(measured[:3])} is held out"
        fix = "delete all but one: what was learned by heart is no measure"
        return Finding("leakage", "warning", rows, why, fix)
    code = "duplicate" if exact else "near-duplicate"
    return Finding(code, "warning", rows, f"{turns} turns say {how}", "delete all but one")


def _least(texts: Sequence[str]) -> float:
    """How alike the first of some texts is to the least alike of the others."""
    return min(similarity(texts[0], other) for other in texts[1:])


def _contradictions(
    turns: Sequence[Turn], says: Mapping[int, int], order: Mapping[str, int]
) -> Iterator[Finding]:
    """The same question, after the same words, with answers that differ.

    Args:
        turns: all.
        says: position of a turn -> the first turn that says the same, where one does.
        order: record -> its place in the dataset.
    """
    asked: dict[str, dict[int, str]] = defaultdict(dict)
    for number, turn in enumerate(turns):
        asked[turn.context][says.get(number, number)] = turn.record
    for answers in asked.values():
        if len(answers) > 1:
            rows = tuple(sorted(set(answers.values()), key=order.__getitem__))
            why = f"{len(answers)} different answers to the same question"
            fix = "keep one, unless they are meant as variants"
            yield Finding("contradictory-answers", "note", rows, why, fix)


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().casefold()
