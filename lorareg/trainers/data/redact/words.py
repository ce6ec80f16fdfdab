"""The word lists of the recognisers, read once: ``words.txt`` and ``names.txt.gz``."""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Names:
    """Names in Latin script, casefolded.

    Attributes:
        given: given names.
        surnames: surnames, also rare ones.
        frequent: surnames that are not rare.
        marked: names that are English words too.
        common_given: marked given names of very many people.
        common_surnames: marked surnames of very many people.
        places: names that are better known as places.
    """

    given: frozenset[str]
    surnames: frozenset[str]
    frequent: frozenset[str]
    marked: frozenset[str]
    common_given: frozenset[str]
    common_surnames: frozenset[str]
    places: frozenset[str]

    def is_given(self, word: str) -> bool:
        """Whether it is a given name and hardly anything else."""
        return word in self.given and word not in self.marked and word not in self.places

    def is_name(self, word: str) -> bool:
        """Whether a person may be called so."""
        return word in self.given or word in self.surnames

    def is_firm(self, word: str) -> bool:
        """Whether it is a name and neither a word nor a place."""
        return self.is_name(word) and word not in self.marked and word not in self.places


@cache
def names() -> Names:
    """The 200,000 names: 0.2 s, the first time."""
    kinds: dict[str, set[str]] = {}
    text = gzip.decompress((_HERE / "names.txt.gz").read_bytes()).decode()
    for line in text.splitlines():
        if not line.startswith("#"):
            kind, name = line.split(" ", 1)
            kinds.setdefault(kind, set()).add(name)

    def of(*wanted: str) -> frozenset[str]:
        return frozenset[str]().union(*(kinds.get(kind, set()) for kind in wanted))

    return Names(
        given=of("g", "g*", "g+"),
        surnames=of("s", "s*", "s+", "r", "r*"),
        frequent=of("s", "s*", "s+"),
        marked=of("g*", "g+", "s*", "s+", "r*"),
        common_given=of("g+"),
        common_surnames=of("s+"),
        places=section("places"),
    )


@cache
def _sections() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    current = ""
    for line in (_HERE / "words.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            current = line.strip("[]")
        elif line and not line.startswith("#"):
            found[current] = (*found.get(current, ()), *line.split())
    return found


def section(name: str) -> frozenset[str]:
    """The words of one section of ``words.txt``."""
    return frozenset(_sections()[name])


def any_of(name: str) -> str:
    """A regular expression for one of the words of a section, the longest first."""
    return "|".join(map(re.escape, sorted(_sections()[name], key=len, reverse=True)))
