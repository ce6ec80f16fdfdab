"""Turns that say the same: duplicates, near-duplicates, leakage, and contradictory answers.

A turn is a question with its answer. Texts are near-duplicates if the sets of their pieces (four
characters, of Chinese two) overlap by 0.8 (Jaccard) and their numbers are the same: rows that
differ in a number are exercises, and are never called near-duplicates. To a group of them belong
those too that overlap with one by 0.7, so that all rows of a template are named. Candidates come
from MinHash and locality-sensitive hashing, so time grows with the number of turns, not with its
square.

Source: Broder 1997, "On the resemblance and containment of documents"; Leskovec, Rajaraman, Ullman,
"Mining of Massive Datasets", chapter 3.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lorareg.trainers.data.check.findings import Finding
from lorareg.trainers.data.check.resemblance import ALIKE, Resemblance, plain, similarity
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
    same = _same(turns)
    root = _alike(turns, same, stage)
    for roots in (same, root):
        for group in _groups(roots):
            texts = list(dict.fromkeys(_squeezed(turns[i].text) for i in group))
            if (len(texts) == 1) == (roots is same):
                rows = tuple(sorted({turns[i].record for i in group}, key=order.__getitem__))
                yield _repeated(rows, len(group), held_out, texts)
    yield from _contradictions(turns, root, order)


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


def _same(turns: Sequence[Turn]) -> list[int]:
    """Position of each turn -> that of the first one with the same words."""
    first: dict[str, int] = {}
    return [first.setdefault(_squeezed(turn.text), number) for number, turn in enumerate(turns)]


def _alike(turns: Sequence[Turn], same: Sequence[int], stage: Stage) -> list[int]:
    """Position of each turn -> that of one which stands for all that say nearly the same."""
    root = list(range(len(turns)))
    akin: list[tuple[int, int]] = []
    core: set[int] = set()
    seen = Resemblance()
    for number, turn in enumerate(turns):
        others = seen.find_and_add(number, turn.text) if same[number] == number else ()
        for other, alike in others:
            # a long question makes "Yes." and "No." alike
            if similarity(turn.answer, turns[other].answer) < ANSWERS:
                continue
            if alike >= ALIKE:
                root[_root(root, number)] = _root(root, other)
                core |= {number, other}
            else:
                akin.append((number, other))
        stage("comparing turns", number + 1, len(turns))
    for one, other in akin:
        if one in core or other in core:
            root[_root(root, one)] = _root(root, other)
    return [_root(root, first) for first in same]


def _groups(roots: Sequence[int]) -> list[list[int]]:
    """Positions of turns with the same root; only groups of two or more."""
    groups = defaultdict(list)
    for number, root in enumerate(roots):
        groups[root].append(number)
    return [group for group in groups.values() if len(group) > 1]


def _root(root: list[int], number: int) -> int:
    while root[number] != number:
        root[number] = root[root[number]]
        number = root[number]
    return number


def _repeated(
    rows: tuple[str, ...], turns: int, held_out: Collection[str], texts: Sequence[str]
) -> Finding:
    """What a group of turns is called.

    Args:
        rows: that they are in.
        turns: how many there are.
        held_out: rows that training only measures on.
        texts: what they say, each wording once.
    """
    exact = len(texts) == 1
    how = "the same" if exact else f"nearly the same ({_least(texts):.2f} alike, numbers the same)"
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
    turns: Sequence[Turn], says: Sequence[int], order: Mapping[str, int]
) -> Iterator[Finding]:
    """The same question, after the same words, with answers that differ.

    Args:
        turns: all.
        says: position of a turn -> that of one which stands for all that say the same.
        order: record -> its place in the dataset.
    """
    asked: dict[str, dict[int, str]] = defaultdict(dict)
    for number, turn in enumerate(turns):
        asked[turn.context][says[number]] = turn.record
    for answers in asked.values():
        if len(answers) > 1:
            rows = tuple(sorted(set(answers.values()), key=order.__getitem__))
            why = f"{len(answers)} different answers to the same question"
            fix = "keep one, unless they are meant as variants"
            yield Finding("contradictory-answers", "note", rows, why, fix)


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().casefold()
