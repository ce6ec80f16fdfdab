"""Whether the trigger words of a composition can be told apart, as the base reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from lorareg.registry.bases.tokenizer import Reader
from lorareg.registry.finding import Finding

LEARNED = re.compile(r"<[^<>\s]+>")  # a token whose embedding was trained: <s0>
ALIKE = 0.5  # share of the shorter trigger's tokens that two begin with
WHAT = "triggers"


def check(triggers: Mapping[str, str], readers: Sequence[Reader]) -> list[Finding]:
    """Every clash, the hard ones first; one finding that all is well if there is none.

    Args:
        triggers: by member.
        readers: tokenizers of the base; without any only the letters are compared.
    """
    found = list(_pairs(triggers, readers))
    for name, trigger in triggers.items():
        if any(reader.is_common(trigger) for reader in readers):
            why = f"{trigger!r} of {name} is a common word to the base, which draws it anyway"
            found.append(_soft(why, f"train {name} with a rare word as its trigger"))
    if found or not triggers:
        return sorted(found, key=lambda finding: not finding.is_hard)
    how = "by the base's tokenizer" if readers else "by letters: no tokenizer of the base is here"
    return [Finding(True, WHAT, f"{', '.join(map(repr, triggers.values()))} differ, {how}")]


def _pairs(triggers: Mapping[str, str], readers: Sequence[Reader]) -> Iterator[Finding]:
    for (one, first), (other, second) in combinations(triggers.items(), 2):
        fix = f"give {other} another trigger in its captions and its manifest, and train it again"
        shared = sorted(set(LEARNED.findall(first)) & set(LEARNED.findall(second)))
        if _plain(first) == _plain(second):
            yield Finding(False, WHAT, f"{one} and {other} share the trigger {first!r}", fix)
        elif any(reader.read(first) == reader.read(second) for reader in readers):
            why = f"the base reads {first!r} of {one} and {second!r} of {other} as the same tokens"
            yield Finding(False, WHAT, why, fix)
        elif shared:
            why = f"{one} and {other} share the learned token {', '.join(shared)}: only one fits in"
            yield Finding(False, WHAT, why, fix)
        elif why := _resemblance(first, second, readers):
            yield _soft(f"{first!r} of {one} and {second!r} of {other}: {why}", fix)


def _resemblance(first: str, second: str, readers: Sequence[Reader]) -> str:
    """How one trigger is within another, or begins as it does; empty if not so."""
    short, long = sorted((_plain(first), _plain(second)), key=len)
    if long.startswith(short):
        return "one begins with the other"
    if re.search(rf"(?<!\w){re.escape(short)}(?!\w)", long):
        return "one contains the other"
    for reader in readers:
        small, large = sorted((reader.read(first), reader.read(second)), key=len)
        if _contains(large, small):
            return "the tokens of one contain those of the other"
        equal = next((n for n, (a, b) in enumerate(zip(small, large, strict=False)) if a != b), 0)
        if small and equal >= ALIKE * len(small):
            return f"both begin with the tokens {' '.join(small[:equal])}"
    return ""


def _contains(large: Sequence[str], small: Sequence[str]) -> bool:
    starts = range(len(large) - len(small) + 1)
    return bool(small) and any(tuple(large[at : at + len(small)]) == tuple(small) for at in starts)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _soft(detail: str, fix: str) -> Finding:
    return Finding(False, WHAT, detail, fix, is_hard=False)
