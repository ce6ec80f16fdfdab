"""What is worth a warning in a composition, each in one sentence with a change to paste.

The thresholds are those at which the adapters of this repository come apart: pairs of one kind (two
characters, two styles) are above, a character with a style is below (docs/composition.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from lorareg.registry.expression import Part
from lorareg.registry.strength import Strength
from lorareg.weights.blocks import REST, example
from lorareg.weights.conflict import Conflicts, Meeting, Overlap, Pair

TIMES_CHANCE = 3.0
SHARE = 0.15  # of a change's energy; in a narrow layer three times chance may be little
AMPLIFICATION = 1.3
DOMINANCE = 3.0
CALMED = 2.0  # the ratio of norms that a suggestion against dominance leaves
NAMED = 3  # blocks that a sentence names


@dataclass(frozen=True)
class Flag:
    """A warning.

    Attributes:
        code: "overlap", "amplification" or "dominance".
        sentence: what was found.
        suggestion: an expression, or options, to paste behind ``lorareg compose``.
    """

    code: str
    sentence: str
    suggestion: str

    def __str__(self) -> str:
        return f"{self.sentence}; try {self.suggestion}"


def flags(conflicts: Conflicts, parts: Sequence[Part]) -> list[Flag]:
    """Every flag of a composition, the most basic first.

    Args:
        conflicts: of all members, in the order of ``parts``.
        parts: the members as an expression has them; two whose windows never meet do not disturb
            each other.
    """
    meeting = [pair for pair in conflicts.pairs if _meet(parts[pair.one], parts[pair.other])]
    found: list[Flag] = []
    if len(meeting) == len(conflicts.pairs):
        found += _amplification(conflicts, parts)
    for pair in meeting:
        found += _overlap(pair, conflicts, parts)
        found += _dominance(pair, conflicts, parts)
    return found


def pasted(parts: Sequence[Part]) -> str:
    """An expression as a shell takes it: braces are quoted, or it would expand them.

    >>> from lorareg.registry.expression import Expression
    >>> pasted(Expression.parse("style/ink:0.5{up=0.3}").parts)
    "'style/ink:0.5{up=0.3}'"
    """
    text = "+".join(map(str, parts))
    return f"'{text}'" if set(text) & set("{}*^~") else text


def _amplification(conflicts: Conflicts, parts: Sequence[Part]) -> Iterator[Flag]:
    if conflicts.amplification <= AMPLIFICATION:
        return
    factor = 1 / conflicts.amplification
    yield Flag(
        "amplification",
        f"the parts push the same way: their sum is {conflicts.amplification:.2f} times as strong "
        "as parts that differ would be, and may look burnt",
        pasted([_times(part, factor) for part in parts]),
    )


def _overlap(pair: Pair, conflicts: Conflicts, parts: Sequence[Part]) -> Iterator[Flag]:
    worst = max(_judged(pair, pair.whole), key=lambda found: found[1].share)
    verb, overlap = worst
    if not _is_much(overlap):
        return
    one, other = conflicts.names[pair.one], conflicts.names[pair.other]
    weaker = pair.one if pair.whole.ratio < 1 else pair.other
    shares = {
        block: max(judged.share for _, judged in _judged(pair, met) if _is_much(judged))
        for block, met in pair.blocks.items()
        if any(_is_much(judged) for _, judged in _judged(pair, met))
    }
    places = sorted(shares, key=shares.__getitem__, reverse=True)[:NAMED]
    yield Flag(
        "overlap",
        f"{one} and {other} {verb} the same directions ({overlap.share:.0%} of one's change, "
        f"{overlap.times:.1f} times chance{_most(places)}), so features of one may show up in the "
        "other or vanish",
        f"--method np --protect {parts[weaker].ref}",
    )


def _dominance(pair: Pair, conflicts: Conflicts, parts: Sequence[Part]) -> Iterator[Flag]:
    sides: list[tuple[int, int, Callable[[Meeting], float]]] = [
        (pair.one, pair.other, lambda met: met.ratio),
        (pair.other, pair.one, lambda met: 1 / met.ratio if met.ratio else float("inf")),
    ]
    for strong, weak, ratio in sides:
        ratios = {
            block: ratio(met)
            for block, met in pair.blocks.items()
            if min(met.energies) > 0 and ratio(met) > DOMINANCE
        }
        if not ratios:
            continue
        calmed = _calmed(parts[strong], ratios, len(ratios) == len(pair.blocks), ratio(pair.whole))
        places = sorted(ratios, key=ratios.__getitem__, reverse=True)
        yield Flag(
            "dominance",
            f"{conflicts.names[strong]} is up to {max(ratios.values()):.1f} times as strong as "
            f"{conflicts.names[weak]} ({', '.join(places[:NAMED])}), which may not show",
            pasted([calmed if at == strong else part for at, part in enumerate(parts)]),
        )


def _calmed(part: Part, ratios: dict[str, float], everywhere: bool, whole: float) -> Part:
    """The part so weak that it is twice as strong as the other where it was three times or more."""
    if everywhere or REST in ratios:
        return _times(part, min(1.0, CALMED / whole))
    strength = Strength(_weight(part), part.blocks)
    lower = {b: _short(strength.of(example(b)) * CALMED / ratio) for b, ratio in ratios.items()}
    return replace(part, weight=_weight(part), blocks={**part.blocks, **lower})


def _judged(pair: Pair, met: Meeting) -> list[tuple[str, Overlap]]:
    """The overlaps that tell something: not of inputs that began as the same random numbers."""
    written = [("write into", met.output)]
    return written if pair.has_common_start else [*written, ("read", met.input)]


def _is_much(overlap: Overlap) -> bool:
    return overlap.times > TIMES_CHANCE and overlap.share > SHARE


def _most(places: Sequence[str]) -> str:
    return f", most in {', '.join(places)}" if places else ""


def _times(part: Part, factor: float) -> Part:
    blocks = {block: _short(weight * factor) for block, weight in part.blocks.items()}
    return replace(part, weight=_short(_weight(part) * factor), blocks=blocks)


def _weight(part: Part) -> float:
    return 1.0 if part.weight is None else part.weight


def _short(weight: float) -> float:
    """Two significant digits, as people write weights."""
    return float(f"{weight:.2g}")


def _meet(one: Part, other: Part) -> bool:
    """Whether two parts are ever on at the same time."""
    if not (one.windows and other.windows):
        return True
    return any(
        max(a, c) < min(b, d) for a, b, f in one.windows for c, d, g in other.windows if f and g
    )
