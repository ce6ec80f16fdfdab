"""Hashes that differ in few bits, found without comparing every pair.

Cut into chunks, two hashes of 64 bits that differ in at most d of them must nearly agree on one of
the chunks (the pigeonhole principle): with radii r of the chunks whose sum is d - chunks + 1, on
one they differ in at most r bits. So hashes are looked up by chunk, and only what is found there is
compared. Exact: nothing is missed.

Source: Norouzi, Punjani, Fleet 2012, "Fast Search in Hamming Space with Multi-Index Hashing",
arXiv 1307.2982.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

BITS = 64
FEWEST = 3  # chunks: of 22 bits each, whose table of 4 million starts is 32 MB
AT_A_TIME = 1 << 21  # pairs compared at a time, 16 bytes each
LOOK_UP = 1.0  # cost of looking up one chunk, in comparisons of two hashes; measured

Hashes = NDArray[np.uint64]
Indices = NDArray[np.intp]


def groups(hashes: Mapping[str, int], distance: int) -> list[tuple[str, ...]]:
    """Names whose hashes are within a distance of another's in the group, sorted.

    Args:
        hashes: name -> 64 bits.
        distance: bits that two hashes may differ in.

    >>> groups({"a": 0b0000, "b": 0b0011, "c": 0b1111, "d": 7 << 40}, 2)
    [('a', 'b', 'c')]
    """
    names = sorted(hashes)
    every = np.array([hashes[name] for name in names], dtype=np.uint64)
    distinct, which = np.unique(every, return_inverse=True)
    labels = np.arange(len(distinct))
    for one, other in pairs(distinct, distance):
        labels = joined(labels, one, other)
    found: dict[int, list[str]] = {}
    for name, label in zip(names, labels[which].tolist(), strict=True):
        found.setdefault(label, []).append(name)
    return sorted(tuple(members) for members in found.values() if len(members) > 1)


def pairs(distinct: Hashes, distance: int) -> Iterator[tuple[Indices, Indices]]:
    """Indices of pairs within a distance, in portions; a pair may come several times.

    Args:
        distinct: hashes (n,), none twice.
        distance: bits.
    """
    if distance < 1 or len(distinct) < 2:
        return
    shift = 0
    for width, radius in _chunks(len(distinct), min(distance, BITS)):
        mask = np.uint64((1 << width) - 1)
        keys = ((distinct >> np.uint64(shift)) & mask).astype(np.int64)
        shift += width
        for one, other in _near(keys, width, radius):
            close = np.bitwise_count(distinct[one] ^ distinct[other]) <= distance
            yield one[close], other[close]


def joined(labels: Indices, one: Indices, other: Indices) -> Indices:
    """Labels after every pair's two groups became one; a group's label is its lowest index.

    Args:
        labels: of each item (n,).
        one: of each pair (k,).
        other: the same.
    """
    while True:
        apart = labels[one] != labels[other]
        if not apart.any():
            return labels
        one, other = one[apart], other[apart]
        low = np.minimum(labels[one], labels[other])
        high = np.maximum(labels[one], labels[other])
        into = np.arange(len(labels))
        np.minimum.at(into, high, low)
        while (into[into] != into).any():
            into = into[into]
        labels = into[labels]


def _chunks(count: int, distance: int) -> list[tuple[int, int]]:
    """Width and radius of each chunk, by the estimated cost of the search."""
    choices = [_cut(chunks, distance) for chunks in range(FEWEST, max(FEWEST, distance + 1) + 1)]
    return min(choices, key=lambda choice: _cost(count, choice))


def _cut(chunks: int, distance: int) -> list[tuple[int, int]]:
    """Widths as even as possible, radii that add up; a chunk of radius -1 need not be looked at."""
    spare = distance - chunks + 1
    widths = [BITS // chunks + (i < BITS % chunks) for i in range(chunks)]
    return [(w, spare // chunks + (i < spare % chunks)) for i, w in enumerate(widths)]


def _cost(count: int, choice: Sequence[tuple[int, int]]) -> float:
    """Of looking up every hash's neighbours by chunk, and of comparing what is found there."""
    cost = 0.0
    for width, radius in choice:
        probes = sum(comb(width, bits) for bits in range(radius + 1))
        cost += probes * count * (LOOK_UP + count / 2**width) / 2 + 2**width
    return cost


def _near(keys: NDArray[np.int64], width: int, radius: int) -> Iterator[tuple[Indices, Indices]]:
    """Pairs whose keys of ``width`` bits differ in at most ``radius``, each once."""
    if radius < 0:
        return
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    starts = np.searchsorted(ranked, np.arange((1 << width) + 1))
    places = np.arange(len(keys))
    for one, other in _spans(places, places + 1, starts[ranked + 1]):
        yield order[one], order[other]
    for bits in range(1, radius + 1):
        for flipped in combinations(range(width), bits):
            mask = sum(1 << bit for bit in flipped)
            half = places[ranked >> flipped[-1] & 1 == 0]  # the other half sees the same pairs
            partner = ranked[half] ^ mask
            for one, other in _spans(half, starts[partner], starts[partner + 1]):
                yield order[one], order[other]


def _spans(items: Indices, first: Indices, end: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Each item beside every number of its span, in portions of about ``AT_A_TIME`` pairs."""
    lengths = end - first
    some = lengths > 0
    items, first, lengths = items[some], first[some], lengths[some]
    total = np.cumsum(lengths)
    begin = 0
    while begin < len(items):
        done = total[begin - 1] if begin else 0
        stop = max(begin + 1, int(np.searchsorted(total, done + AT_A_TIME, side="right")))
        sizes = lengths[begin:stop]
        offsets = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        yield np.repeat(items[begin:stop], sizes), np.repeat(first[begin:stop], sizes) + offsets
        begin = stop
