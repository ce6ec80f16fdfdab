"""What a dataset looks like in numbers: small JSON for ``dataset.json`` and the card."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from lorareg.trainers.data.check import terms

SIDES = (64, 128, 256, 512, 768, 1024, 1536, 2048, 4096)  # pixels of the shorter side
# Halfway, as ratios, between the sizes that buckets and cameras use: 1:2, 2:3, 1:1, 3:2, 2:1.
ASPECTS = (
    (0.58, "1:2 or taller"),
    (0.82, "tall, about 2:3"),
    (1 / 0.82, "about square"),
    (1 / 0.58, "wide, about 3:2"),
)
WIDEST = "2:1 or wider"
TOKENS = tuple(1 << power for power in range(4, 18))  # 16 to 131,072
TURNS = (1, 2, 3, 5, 9, 17)  # answers a dialogue
TOP_TERMS = 15

Counts = list[list[Any]]
"""Pairs of a name and a number: the keys of a JSON object would be sorted when it is written."""


def of_pictures(
    sizes: Mapping[str, tuple[int, int]],
    captions: Mapping[str, str],
    tokens: Mapping[str, int] | None = None,
    duplicates_removed: int | None = None,
) -> dict[str, Any]:
    """Numbers on an image dataset.

    Args:
        sizes: width and height of every picture that decodes, upright.
        captions: by picture; blank ones count as none.
        tokens: length of every caption in tokens of the base's tokenizer; None counts words.
        duplicates_removed: pictures left out as copies of others, if that is known.
    """
    written = [text for name in sorted(captions) if (text := captions[name].strip())]
    lengths = [terms.words(text) for text in written] if tokens is None else list(tokens.values())
    ratios = [math.log(width / height) for width, height in sizes.values()]
    edges = [math.log(edge) for edge, _ in ASPECTS]
    found: dict[str, Any] = {
        "pictures": len(sizes),
        "captions": len(written),
        "shorter_side": _histogram([min(size) for size in sizes.values()], SIDES),
        "aspect": _counted(
            [bisect_right(edges, r) for r in ratios], [n for _, n in ASPECTS] + [WIDEST]
        ),
        "caption_length": {"unit": "words" if tokens is None else "tokens", **_spread(lengths)},
        "top_terms": [list(pair) for pair in terms.top(written, TOP_TERMS)],
    }
    if duplicates_removed is not None:
        found["duplicates_removed"] = duplicates_removed
    return found


def of_dialogues(
    tokens: Sequence[int],
    answers: Sequence[int],
    duplicates_removed: int | None = None,
    *,
    spoken: Mapping[str, Mapping[str, int]] | None = None,
) -> dict[str, Any]:
    """Numbers on a dialogue dataset.

    Args:
        tokens: length of every dialogue in tokens of the base's tokenizer; empty if not counted.
        answers: how often the assistant speaks in each dialogue.
        duplicates_removed: as for pictures.
        spoken: how many dialogues begin with each system prompt ("system_prompts") and are answered
            in each script ("scripts"): whether adapters suit each other is told by these.
    """
    found: dict[str, Any] = {
        "dialogues": len(answers),
        "answers": {**_spread(answers), "histogram": _histogram(answers, TURNS)},
    }
    if tokens:
        found["tokens"] = {
            "total": sum(tokens), **_spread(tokens), "histogram": _histogram(tokens, TOKENS)
        }  # fmt: skip
    for name, counts in (spoken or {}).items():
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        found |= {name: [list(pair) for pair in ranked[:TOP_TERMS]]} if ranked else {}
    if duplicates_removed is not None:
        found["duplicates_removed"] = duplicates_removed
    return found


def _spread(values: Sequence[int]) -> dict[str, int]:
    """Least, middle, 95th of a hundred (nearest rank) and most; nothing of nothing."""
    if not values:
        return {}
    ranked = sorted(values)
    rank = {"min": 0.0, "median": 0.5, "p95": 0.95, "max": 1.0}
    return {name: ranked[max(0, math.ceil(q * len(ranked)) - 1)] for name, q in rank.items()}


def _histogram(values: Sequence[int], edges: Sequence[int]) -> Counts:
    """Counts by range, from the first to the last that has any; ranges start at the edges."""
    names = [f"below {edges[0]}"]
    for low, high in zip(edges, edges[1:], strict=False):
        names.append(str(low) if high == low + 1 else f"{low}-{high - 1}")
    names.append(f"{edges[-1]} and more")
    return _counted([bisect_right(edges, value) for value in values], names)


def _counted(places: Sequence[int], names: Sequence[str]) -> Counts:
    if not places:
        return []
    between = range(min(places), max(places) + 1)
    return [[names[place], sum(p == place for p in places)] for place in between]
