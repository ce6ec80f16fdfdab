"""What one file of each rank would lose and weigh, as points of a drawing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 28, 18, 44
TICKS = 5

Step = tuple[int, float, int]
"""Rank, relative error, bytes of the file."""


@dataclass(frozen=True)
class Point:
    """A file on the drawing.

    Attributes:
        x, y: where, in units of the drawing.
        rank: 0 where each module has its own.
    """

    x: float
    y: float
    rank: int
    error: float
    bytes: int


@dataclass(frozen=True)
class Tick:
    """A line of an axis and its words."""

    at: float
    words: str


@dataclass(frozen=True)
class Curve:
    """Error over size, one point a rank, with the chosen file on it.

    Attributes:
        rows: the ranks that a table names: powers of two, the chosen one and the last.
    """

    points: tuple[Point, ...]
    chosen: Point
    errors: tuple[Tick, ...]
    sizes: tuple[Tick, ...]
    rows: tuple[Point, ...]

    @property
    def line(self) -> str:
        """The points as SVG has them."""
        return " ".join(f"{point.x:.1f},{point.y:.1f}" for point in self.points)


def curve(steps: Sequence[Step], chosen: Step) -> Curve:
    """Lay the steps out; both axes begin at zero."""
    loudest = max([error for _, error, _ in (*steps, chosen)]) or 1.0
    largest = max([size for _, _, size in (*steps, chosen)])

    def place(step: Step) -> Point:
        rank, error, size = step
        x = LEFT + (WIDTH - LEFT - RIGHT) * size / largest
        return Point(x, _height(error / loudest), rank, error, size)

    points = tuple(map(place, steps))
    named = {2**power for power in range(13)} | {chosen[0], steps[-1][0]}
    return Curve(
        points,
        place(chosen),
        tuple(Tick(_height(v / loudest), f"{v:.3g}") for v in _round_numbers(loudest)),
        tuple(
            Tick(LEFT + (WIDTH - LEFT - RIGHT) * v / largest, size_words(v))
            for v in _round_numbers(largest)
        ),
        tuple(point for point in points if point.rank in named),
    )


def size_words(count: float) -> str:
    """Bytes as people read them.

    >>> size_words(45_400_000), size_words(9500), size_words(12)
    ('45.4 MB', '9.5 kB', '12 B')
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count:g} B"


def _height(share: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)


def _round_numbers(largest: float) -> Iterator[float]:
    """About five numbers from 0 to ``largest`` that people would choose."""
    rough = largest / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(n for n in (1, 2, 2.5, 5, 10) if power * n >= rough * 0.999)
    for count in range(TICKS + 1):
        if count * step <= largest * 1.001:
            yield count * step
