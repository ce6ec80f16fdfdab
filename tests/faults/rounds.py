"""How often a fault is tried, and what came of it.

By default a few times with fixed seeds, so that a red build can be repeated; LORAREG_FAULTS=100
tries each kind a hundred times with new seeds, which are printed.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Tally:
    """What came of many rounds of one fault.

    Attributes:
        counts: what is counted, by its name.
        notes: what was found wrong, each with its seed.
    """

    kind: str
    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def count(self, name: str, number: int = 1) -> None:
        self.counts[name] += number

    def wrong(self, name: str, seed: int, complaints: list[str]) -> None:
        """Count complaints; there must be none in the end."""
        self.counts[name] += len(complaints)
        self.notes += [f"seed {seed}: {name}: {each}" for each in complaints]

    def must_be_clean(self) -> None:
        """Print the counts, and fail where something was wrong."""
        told = ", ".join(f"{name} {number}" for name, number in self.counts.items())
        tell(f"{self.kind}: {told}")
        assert not self.notes, "\n".join([f"{self.kind}: {told}", *self.notes])


def seeds(default: int) -> Iterator[Seeded]:
    """A source of draws for every round; its ``seed`` is printed with what it did."""
    asked = int(os.environ.get("LORAREG_FAULTS", "0"))
    first = time.time_ns() % 1_000_000_000 if asked else 1000
    for number in range(asked or default):
        yield Seeded(first + number)


class Seeded(random.Random):
    """A source of draws that knows its seed."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.number = seed


def tell(line: str) -> None:
    """Print a line; pytest shows it with -s, or where a test failed."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
