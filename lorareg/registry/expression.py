"""The expression of a composition, as people type it.

EXPR := PART ('+' PART)*; PART := REF[':' weight]['{' key '=' value, ... '}']. A weight is linear in
the delta and may be negative (``style/ink:-0.3``); without one the adapter's recommended weight
counts. A key is a component or a block with a weight of its own, or ``steps`` with the parts of the
denoising, from 0 to 1, in which the adapter is on, each with a factor on its weights where that is
not 1: ``style/ink:0.7{te=0.5,up=0.4}``, ``style/ink{steps=0-0.3*0.5/0.3-0.8}``. Where cells of a
sheet are asked for, a weight may be a sweep (``expand``): ``style/ink:0.4..1/4``.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from lorareg.errors import LoraregError
from lorareg.registry.ids import Ref
from lorareg.registry.strength import MAX_WEIGHT, check_key

MAX_PARTS = 64
WEIGHT = re.compile(r"-?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE]-?[0-9]{1,3})?")
STEPS = "steps"
NUMBER = r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+"
SPAN = re.compile(rf"({NUMBER})-({NUMBER})(?:\*(-?(?:{NUMBER})))?")
MAX_CELLS = 64
MAX_SWEPT = 2
SWEPT = re.compile(r"([^:{]+):([^:{]*?)\.\.([^:{]*)/([^:{]*)({.*)?")
Window = tuple[float, float, float]
"""From, to (progress of the denoising, 0 to 1), and the factor on the weights in between."""


@dataclass(frozen=True)
class Part:
    """One adapter (or recipe) of a composition and how strong it is.

    Attributes:
        weight: of all modules; None for the recommended one.
        blocks: component or block -> its own weight (``strength.Strength``).
        windows: when it is on, in order; empty for all the time.
    """

    ref: Ref
    weight: float | None = None
    blocks: Mapping[str, float] = field(default_factory=dict)
    windows: tuple[Window, ...] = ()

    def __str__(self) -> str:
        options = [f"{key}={weight!r}" for key, weight in self.blocks.items()]
        options += [f"{STEPS}={'/'.join(map(_shown, self.windows))}"] if self.windows else []
        braces = f"{{{','.join(options)}}}" if options else ""
        return str(self.ref) + ("" if self.weight is None else f":{self.weight!r}") + braces


@dataclass(frozen=True)
class Expression:
    """A composition as people type it.

    >>> str(Expression.parse("style/ink:0.7{te=0.5}+character/zhangsan"))
    'style/ink:0.7{te=0.5}+character/zhangsan'
    """

    parts: tuple[Part, ...]

    @classmethod
    def parse(cls, text: str) -> Expression:
        """Read an expression; the law is ``parse(str(e)) == e``.

        Raises:
            LoraregError: an empty part, a weight that is no number, or too many parts.
        """
        parts = tuple(_part(text, piece) for piece in text.split("+"))
        if len(parts) > MAX_PARTS:
            raise LoraregError(f"a composition has at most {MAX_PARTS} parts", why=f"{len(parts)}")
        return cls(parts)

    def __str__(self) -> str:
        return "+".join(str(part) for part in self.parts)


@dataclass(frozen=True)
class Axis:
    """The weights that one part of an expression takes in turn."""

    ref: str
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Sweep:
    """Expressions that differ in the weights of at most two parts.

    Attributes:
        axes: the swept parts, in the order of the text.
        cells: one expression for each combination; the last axis changes fastest.
    """

    axes: tuple[Axis, ...]
    cells: tuple[Expression, ...]


def expand(text: str) -> Sweep:
    """Read an expression whose weights may be written FROM..TO/COUNT, both ends included.

    >>> [str(cell) for cell in expand("style/ink:0.4..1/3+tone").cells]
    ['style/ink:0.4+tone', 'style/ink:0.7+tone', 'style/ink:1.0+tone']

    Raises:
        LoraregError: what ``Expression.parse`` raises; an end that is no weight, a count below 2,
            more than two swept parts, or more than 64 cells.
    """
    axes: list[Axis] = []
    choices: list[list[str]] = []
    for piece in map(str.strip, text.split("+")):
        found = SWEPT.fullmatch(piece)
        if found is None:
            choices.append([piece])
            continue
        ref, rest = found[1].strip(), found[5] or ""
        axes.append(Axis(ref, _steps(piece, found[2].strip(), found[3].strip(), found[4].strip())))
        choices.append([f"{ref}:{weight!r}{rest}" for weight in axes[-1].weights])
    count = math.prod(len(axis.weights) for axis in axes)
    if len(axes) > MAX_SWEPT or count > MAX_CELLS:
        raise LoraregError(
            f"{text!r} sweeps {len(axes)} weights in {count} cells",
            why=f"a sheet has at most {MAX_SWEPT} swept weights and {MAX_CELLS} cells",
            fix="write it as style/ink:0.4..1/4+character/zhangsan:0.5..1/3",
        )
    return Sweep(
        tuple(axes),
        tuple(Expression.parse("+".join(cell)) for cell in itertools.product(*choices)),
    )


def _steps(piece: str, first: str, last: str, count: str) -> tuple[float, ...]:
    start, stop = _weight(piece, first), _weight(piece, last)
    if not re.fullmatch(r"[0-9]{1,3}", count) or not 2 <= int(count) <= MAX_CELLS or start == stop:
        raise LoraregError(
            f"{piece!r} is no sweep",
            why=f"it goes from one weight to another in 2 to {MAX_CELLS} steps",
            fix="write it as style/ink:0.4..1/4",
        )
    steps = int(count) - 1
    between = (start + (stop - start) * step / steps for step in range(1, steps))
    return (start, *(float(f"{weight:.6g}") for weight in between), stop)


def _part(text: str, piece: str) -> Part:
    head, brace, rest = piece.strip().partition("{")
    ref, colon, weight = (half.strip() for half in head.partition(":"))
    if not ref:
        raise LoraregError(
            f"{text!r} has an empty part", fix="write it as style/ink:0.7+character/zhangsan:0.9"
        )
    if brace and not rest.endswith("}"):
        raise LoraregError(
            f"{piece.strip()!r}: the brace is not closed", fix=f"write it as {ref}:0.7{{te=0.5}}"
        )
    blocks, windows = _options(piece, rest.removesuffix("}")) if brace else ({}, ())
    return Part(Ref.parse(ref), _weight(piece, weight) if colon else None, blocks, windows)


def _weight(piece: str, text: str) -> float:
    if not WEIGHT.fullmatch(text) or abs(float(text)) > MAX_WEIGHT:
        raise LoraregError(
            f"{piece.strip()!r}: {text!r} is no weight",
            why=f"a weight is a number between -{MAX_WEIGHT} and {MAX_WEIGHT}",
            fix="write it as style/ink:0.7",
        )
    return float(text)


def _options(piece: str, text: str) -> tuple[dict[str, float], tuple[Window, ...]]:
    blocks: dict[str, float] = {}
    windows: tuple[Window, ...] = ()
    for key, value in _pairs(piece, text):
        if key == STEPS:
            windows = _windows(piece, value)
        else:
            blocks[check_key(key)] = _weight(piece, value)
    return blocks, windows


def _pairs(piece: str, text: str) -> Iterator[tuple[str, str]]:
    seen = set()
    for item in text.split(","):
        key, equals, value = (half.strip() for half in item.partition("="))
        if not equals or key in seen:
            raise LoraregError(
                f"{piece.strip()!r}: {item.strip()!r} is "
                + ("said twice" if equals else "not key=value"),
                fix="write it as style/ink:0.7{te=0.5,steps=0-0.6}",
            )
        seen.add(key)
        yield key, value


def _windows(piece: str, text: str) -> tuple[Window, ...]:
    windows = []
    for item in text.split("/"):
        found = SPAN.fullmatch(item.strip())
        start, stop, factor = found.groups() if found else ("0", "0", None)
        windows.append((float(start), float(stop), float(factor or 1)))
    try:
        return check_windows(tuple(windows))
    except ValueError as error:
        raise LoraregError(
            f"{piece.strip()!r}: {error}",
            why="0 is the first denoising step, 1 the end of the last",
            fix="write the first 60 percent as steps=0-0.6",
        ) from error


def check_windows(windows: tuple[Window, ...]) -> tuple[Window, ...]:
    """Return windows that lie between 0 and 1, in order and apart.

    Raises:
        ValueError: they do not.
    """
    before = 0.0
    for start, stop, factor in windows:
        if not before <= start < stop <= 1 or abs(factor) > MAX_WEIGHT:
            raise ValueError("steps are parts of the way from 0 to 1, in order and apart")
        before = stop
    return windows


def _shown(window: Window) -> str:
    start, stop, factor = window
    return f"{start!r}-{stop!r}" + (f"*{factor!r}" if factor != 1 else "")
