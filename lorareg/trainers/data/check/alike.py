"""Whether two small pictures are one picture, re-encoded, resized, slightly cropped or relit.

A perceptual hash alone takes drawings of one character in one pose for duplicates: hair of another
colour or another mouth hardly changes it. So what differs between the thumbnails is explained as
far as a small shift, a small crop, and other brightness and contrast can explain it (least squares
on the gradients, as in optical flow), and what remains must be small everywhere.

Source: Lucas, Kanade 1981, "An Iterative Image Registration Technique with an Application to
Stereo Vision".
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lorareg.trainers.data.check import similar
from lorareg.trainers.data.check.probe import THUMB, TINT, Facts

DISTANCE = 10  # bits of 64 that the hashes of one picture may differ in
REMAINS = 16.0  # of 255: what may remain unexplained of a smoothed thumbnail, in any place
COLOUR = 16.0  # of 255: how far a colour may lie outside of those around its place
AT_A_TIME = 256  # pairs compared at a time: 6 MB
FARTHEST = 2.5  # thumbnail pixels that a shift or crop may move a place: 8 % of the picture
RELIT = 0.4  # contrast, of lightness and of colour, may change by this share
STIFFNESS = 30.0  # keeps flat pictures, which any shift explains, from being shifted

GREY = base64.b64encode(bytes([128]) * (2 * TINT * TINT)).decode()

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Thumbs:
    """What is compared of n pictures.

    Attributes:
        hashes: (n,).
        lights: smoothed thumbnails (n, 32, 32).
        tints: blue and red difference (n, 2, 8, 8).
    """

    hashes: NDArray[np.uint64]
    lights: Floats
    tints: Floats

    @classmethod
    def of(cls, facts: Sequence[Facts]) -> Self:
        """Decode them; colours that were never computed count as grey, all alike."""
        lights = _decoded([each.thumb for each in facts]).reshape(-1, THUMB, THUMB)
        tints = _decoded([each.tint or GREY for each in facts]).reshape(-1, 2, TINT, TINT)
        hashes = np.array([each.phash for each in facts], dtype=np.uint64)
        return cls(hashes, _smooth(lights), tints)

    def like(self, one: int, others: Indices) -> Indices:
        """Those of ``others`` that are the same picture as ``one``."""
        bits = np.bitwise_count(self.hashes[others] ^ self.hashes[one])
        others = others[bits <= DISTANCE]
        kept = [others[:0]]
        for start in range(0, len(others), AT_A_TIME):
            some = others[start : start + AT_A_TIME]
            mine = np.full_like(some, one)
            close = outlying(self.tints[mine], self.tints[some]) <= COLOUR
            some, mine = some[close], mine[close]
            kept.append(some[remains(self.lights[mine], self.lights[some]) <= REMAINS])
        return np.concatenate(kept)


def groups(facts: Mapping[str, Facts]) -> list[tuple[str, ...]]:
    """Keys of pictures that are one picture, sorted; each is like at least one other of its group.

    Args:
        facts: by a key, of pictures that have content: flat ones are all alike.
    """
    found = []
    for candidates in suspects(facts):
        thumbs = Thumbs.of([facts[key] for key in candidates])
        for members in _connected(thumbs):
            found.append(tuple(candidates[index] for index in members))
    return sorted(found)


def suspects(facts: Mapping[str, Facts]) -> list[tuple[str, ...]]:
    """Keys whose perceptual hashes are close: among them are all that are alike."""
    return similar.groups({key: each.phash for key, each in facts.items()}, DISTANCE)


def _connected(thumbs: Thumbs) -> Iterator[list[int]]:
    """Indices of those that are alike, directly or through others; only groups of two or more."""
    left = np.arange(len(thumbs.hashes))
    while len(left):
        members, reached = [], [int(left[0])]
        left = left[1:]
        while reached:
            members.append(reached.pop())
            new = thumbs.like(members[-1], left)
            left = np.setdiff1d(left, new, assume_unique=True)
            reached.extend(new.tolist())
        if len(members) > 1:
            yield sorted(members)


def remains(before: Floats, after: Floats) -> Floats:
    """The largest difference that shift, crop, brightness and contrast do not explain (k,).

    Args:
        before: smoothed thumbnails (k, 32, 32).
        after: the same of the others.
    """
    middle = (before + after) / 2
    across = (middle[:, 1:-1, 2:] - middle[:, 1:-1, :-2]) / 2
    down = (middle[:, 2:, 1:-1] - middle[:, :-2, 1:-1]) / 2
    inner = middle[:, 1:-1, 1:-1]
    place = np.linspace(-1, 1, inner.shape[-1], dtype=np.float32)
    contrast = inner - inner.mean(axis=(1, 2), keepdims=True)
    causes = np.stack(
        [across, down, across * place, down * place[:, None], contrast, np.ones_like(inner)], 1
    ).reshape(len(before), 6, (THUMB - 2) ** 2)
    change = (after - before)[:, 1:-1, 1:-1].reshape(len(before), causes.shape[2])
    squares = causes @ causes.swapaxes(1, 2) + np.eye(6, dtype=np.float32) * STIFFNESS
    amounts = np.linalg.solve(squares, causes @ change[..., None])[..., 0]
    amounts[:, :4] = amounts[:, :4].clip(-FARTHEST, FARTHEST)
    amounts[:, 4] = amounts[:, 4].clip(-RELIT, RELIT)
    explained = (amounts[:, None] @ causes)[:, 0]
    return np.asarray(np.abs(change - explained).max(axis=1))


def outlying(one: Floats, other: Floats) -> Floats:
    """How far a colour lies outside of those around its place in the other picture (k,).

    Args:
        one: blue and red difference (k, 2, 8, 8); 128 is grey.
        other: the same of the others.
    """
    one, other = one - 128, other - 128
    power = (one * one).sum(axis=(1, 2, 3)) + STIFFNESS
    stronger = ((one * other).sum(axis=(1, 2, 3)) + STIFFNESS) / power
    one = one * stronger.clip(1 - RELIT, 1 + RELIT)[:, None, None, None]
    apart = [_outside(one, other), _outside(other, one)]
    return np.asarray(np.maximum(*apart).max(axis=(1, 2, 3)))


def _outside(one: Floats, other: Floats) -> Floats:
    around = np.pad(other, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(around, (3, 3), axis=(2, 3))
    low, high = windows.min(axis=(-2, -1)), windows.max(axis=(-2, -1))
    return np.asarray(np.maximum(low - one, one - high))


def _smooth(pictures: Floats) -> Floats:
    """Weights 1, 2, 1 both ways: a shift then explains the change at an edge."""
    around = np.pad(pictures, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = (around[:, :-2] + 2 * around[:, 1:-1] + around[:, 2:]) / 4
    return np.asarray((rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 4)


def _decoded(texts: Sequence[str]) -> Floats:
    data = b"".join(base64.b64decode(text) for text in texts)
    return np.frombuffer(data, np.uint8).astype(np.float32)
