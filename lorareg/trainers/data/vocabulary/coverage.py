"""How often captions use each term: what a model hardly sees, it hardly learns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lorareg.trainers.data.check.findings import Finding
from lorareg.trainers.data.vocabulary.matching import Match
from lorareg.trainers.data.vocabulary.schema import FILE, Vocabulary

FEW = 3  # captions
FEW_SHARE = 0.02


@dataclass(frozen=True)
class Use:
    """How often one term is used.

    Attributes:
        captions: that have the term in its own words.
        aliased: that have only an alias of it; ``--fix`` turns them.
        share: of all captions that have the term, 0 to 1.
        verdict: "never"; "hardly": in fewer than 3 captions or fewer than 2 % of them; or "fine".
    """

    group: str
    term: str
    captions: int
    aliased: int
    share: float
    verdict: Literal["never", "hardly", "fine"]

    def document(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "group": self.group,
            "term": self.term,
            "captions": self.captions,
            "aliased": self.aliased,
            "share": round(self.share, 4),
            "verdict": self.verdict,
        }


def coverage(vocabulary: Vocabulary, found: Mapping[str, Sequence[Match]]) -> list[Use]:
    """The use of every term, in the order of the vocabulary.

    Args:
        vocabulary: the terms.
        found: by picture, what ``Vocabulary.find`` gives for its caption.
    """
    own: Counter[str] = Counter()
    by_alias: Counter[str] = Counter()
    for matches in found.values():
        terms = {match.phrase.meaning for match in matches if match.phrase.kind == "term"}
        own.update(terms)
        by_alias.update({m.phrase.meaning for m in matches if m.phrase.kind == "alias"} - terms)
    return [
        Use(
            vocabulary.group_of(term),
            term,
            own[term],
            by_alias[term],
            own[term] / max(1, len(found)),
            _verdict(own[term], len(found)),
        )
        for term in vocabulary.terms()
    ]


def findings(uses: Sequence[Use], captions: int) -> list[Finding]:
    """A warning for each group with terms that the model hardly sees.

    Args:
        uses: of every term.
        captions: how many there are.
    """
    few = math.ceil(_few(captions))
    found = []
    for group in dict.fromkeys(use.group for use in uses):
        never = [u.term for u in uses if u.group == group and u.verdict == "never"]
        hardly = [
            f"{u.term} ({u.captions})" for u in uses if u.group == group and u.verdict == "hardly"
        ]
        parts = [f"never: {', '.join(never)}"] * bool(never)
        parts += [f"in fewer than {few} of {captions} captions: {', '.join(hardly)}"] * bool(hardly)
        if parts:
            fix = f"add pictures that show them, or remove them from {FILE}"
            why = f"{group}: {'; '.join(parts)}"
            found.append(Finding("vocabulary-unseen", "warning", (), why, fix))
    return found


def _few(captions: int) -> float:
    return max(FEW, FEW_SHARE * captions)


def _verdict(count: int, captions: int) -> Literal["never", "hardly", "fine"]:
    if not count:
        return "never"
    return "hardly" if count < _few(captions) else "fine"
