"""A fingerprint of what an adapter does, by which any file of the same delta is recognised.

Factors are unique only up to an invertible matrix, and an SVD's bytes differ between machines, so
bytes cannot say whether two merges are the same. Instead every module's delta D is seen through
random signs: u^T D z, several times. Of two deltas, the mean square of the differences is an
unbiased estimate of their squared Frobenius distance (Hutchinson's estimator).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lorareg.weights.adapter import LoraAdapter, LoraLayer, flat, refuse_dora

LOOKS = 8
"""Looks at each module: that all miss a difference by chance is out of the question."""
DIGITS = 9  # what a float32 holds

Probes = Mapping[str, tuple[float, ...]]
"""Module path -> Frobenius norm of its delta, then its looks."""


@dataclass(frozen=True)
class Match:
    """How near two deltas are.

    Attributes:
        difference: estimated |found - wanted| / |wanted| over all modules.
        worst: module that differs most, as a share of |wanted|.
        missing: modules that only the wanted one has; extra: that only the found one has.
    """

    difference: float
    worst: str | None
    missing: tuple[str, ...]
    extra: tuple[str, ...]


def take(adapter: LoraAdapter) -> dict[str, tuple[float, ...]]:
    """Norm and looks of every module whose delta is not zero.

    Raises:
        LoraregError: of a DoRA, whose change depends on the base.
    """
    refuse_dora(adapter.is_dora)
    found = {name: _probe(name, layer) for name, layer in sorted(adapter.layers.items())}
    return {name: values for name, values in found.items() if any(values)}


def compare(found: Probes, wanted: Probes) -> Match:
    """Estimate how far one adapter is from another, from their probes alone."""
    modules = sorted(found.keys() | wanted.keys())
    none = (0.0,) * (LOOKS + 1)
    gaps = {name: _gap(found.get(name, none), wanted.get(name, none)) for name in modules}
    size = float(np.linalg.norm([values[0] for values in wanted.values()])) if wanted else 0.0
    total = float(np.linalg.norm(list(gaps.values()))) if gaps else 0.0
    worst = max(gaps, key=gaps.__getitem__, default=None)
    return Match(
        difference=total / size if size else total,
        worst=worst if worst is not None and gaps[worst] else None,
        missing=tuple(name for name in modules if name not in found),
        extra=tuple(name for name in modules if name not in wanted),
    )


def signs(purpose: str, count: int) -> NDArray[np.float64]:
    """+1 or -1 out of SHAKE-256: the same numbers in every version of every library."""
    data = hashlib.shake_256(purpose.encode()).digest((count + 7) // 8)
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8))[:count]
    return bits.astype(np.float64) * 2 - 1


def _probe(name: str, layer: LoraLayer) -> tuple[float, ...]:
    down, up = flat(layer.down).astype(np.float64), flat(layer.up).astype(np.float64)
    norm = np.sqrt(max(float(np.sum((up.T @ up) * (down @ down.T))), 0.0))
    right = signs(f"{name}:in", LOOKS * down.shape[1]).reshape(LOOKS, -1)
    left = signs(f"{name}:out", LOOKS * up.shape[0]).reshape(LOOKS, -1)
    looks = np.sum((left @ up) * (right @ down.T), axis=1)
    values = (abs(layer.scale) * norm, *(layer.scale * looks))
    return tuple(float(f"{value:.{DIGITS}g}") for value in values)


def _gap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    return float(np.sqrt(np.mean(np.square(np.subtract(one[1:], other[1:])))))
