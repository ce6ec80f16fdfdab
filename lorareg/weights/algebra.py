"""Exact arithmetic on adapters: pure functions on numpy, no base model, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lorareg.errors import LoraregError
from lorareg.registry.strength import Strength
from lorareg.weights.adapter import Array, LoraAdapter, LoraLayer, flat, refuse_dora


def at(adapter: LoraAdapter, strength: Strength) -> LoraAdapter:
    """The adapter with its delta multiplied, module by module; the factors stay as they are.

    Raises:
        LoraregError: a DoRA at another strength than 1.
    """
    refuse_dora(adapter.is_dora and strength != Strength(1.0))
    return LoraAdapter(
        {
            name: replace(layer, alpha=layer.alpha * strength.of(name))
            for name, layer in adapter.layers.items()
        }
    )


def weighted_sum(parts: Sequence[tuple[LoraAdapter, float]]) -> LoraAdapter:
    """The adapter whose delta is exactly sum_i w_i delta_i, of rank sum_i r_i.

    Factors are stacked, each scaled by sqrt|w_i s_i| so that both stay in a healthy range, the
    sign goes into ``down``. Scales are folded in and every layer is padded with zeros to one rank
    with alpha = rank: the only form that every consumer reads alike.

    Law: weighted_sum([(a, 1)]) has a's delta; the order of parts does not change the delta.

    Raises:
        LoraregError: the parts adapt nothing, or modules of different shapes; one is a DoRA.
    """
    refuse_dora(any(adapter.is_dora for adapter, _ in parts))
    strengths = {
        name: [(x.layers[name], w * x.layers[name].scale) for x, w in parts if name in x.layers]
        for name in modules([adapter for adapter, _ in parts])
    }
    rank = max(sum(layer.rank for layer, _ in found) for found in strengths.values())
    layers = {}
    for name, found in strengths.items():
        check_shapes(name, [layer for layer, _ in found])
        down, up = _stack(found, rank)
        layers[name] = LoraLayer(down, up, float(rank))
    return LoraAdapter(layers)


def modules(parts: Sequence[LoraAdapter]) -> list[str]:
    """Every module that some part adapts, sorted.

    Raises:
        LoraregError: there is none.
    """
    found = sorted({name for adapter in parts for name in adapter.layers})
    if not found:
        raise LoraregError("there is nothing to add up", why="no part adapts any module")
    return found


def check_shapes(name: str, layers: Sequence[LoraLayer]) -> None:
    """Raise LoraregError unless the layers are of one module."""
    if len({(layer.down.shape[1:], layer.up.shape[0]) for layer in layers}) != 1:
        raise LoraregError(
            f"the parts give module {name} different shapes",
            why="they were trained on different base models",
            fix="compose adapters of one base: lorareg show REF names it",
        )


def inner(one: LoraLayer, other: LoraLayer) -> float:
    """Frobenius inner product of two deltas of one module, from the factors alone."""
    ups = flat(one.up).T.astype(np.float64) @ flat(other.up)
    downs = flat(one.down).astype(np.float64) @ flat(other.down).T
    return float(one.scale * other.scale * np.sum(ups * downs))


def norm(adapter: LoraAdapter) -> float:
    """Frobenius norm of the whole delta.

    Raises:
        LoraregError: of a DoRA.
    """
    refuse_dora(adapter.is_dora)
    return float(np.sqrt(sum(max(inner(x, x), 0.0) for x in adapter.layers.values())))


def cosine(one: LoraAdapter, other: LoraAdapter) -> float:
    """Cosine between two deltas over all modules; 0 if one of them is zero."""
    shared = sorted(one.layers.keys() & other.layers.keys())  # a set's order is random
    product = sum(inner(one.layers[name], other.layers[name]) for name in shared)
    norms = norm(one) * norm(other)
    return product / norms if norms else 0.0


def relative_difference(one: LoraAdapter, other: LoraAdapter) -> float:
    """|one - other| / |other|, in the norm of the deltas.

    Another magnitude moves a DoRA's row by as much, so those of DoRAs count beside the deltas.
    """
    first, second = _without_magnitudes(one), _without_magnitudes(other)
    gap = norm(weighted_sum([(first, 1.0), (second, -1.0)]))
    gap = float(np.hypot(gap, _magnitude_gap(one, other)))
    size = norm(second)
    return gap / size if size else gap


def _without_magnitudes(adapter: LoraAdapter) -> LoraAdapter:
    return LoraAdapter({n: replace(x, magnitude=None) for n, x in adapter.layers.items()})


def _magnitude_gap(one: LoraAdapter, other: LoraAdapter) -> float:
    """Norm of the difference of all magnitudes; infinite where only one of the two has them."""
    first, second = (
        {n: x.magnitude for n, x in adapter.layers.items() if x.magnitude is not None}
        for adapter in (one, other)
    )
    if first.keys() != second.keys():
        return float("inf")
    gaps = [np.linalg.norm(first[n].astype(np.float64) - second[n]) for n in sorted(first)]
    return float(np.linalg.norm(gaps))


def _stack(found: Sequence[tuple[LoraLayer, float]], rank: int) -> tuple[Array, Array]:
    """Both factors of a module, written once into arrays of the final size."""
    first = found[0][0]
    down = np.empty((rank, *first.down.shape[1:]), np.float32)
    up = np.empty((first.up.shape[0], rank, *first.up.shape[2:]), np.float32)
    end = 0
    for layer, strength in found:
        start, end = end, end + layer.rank
        root = np.sqrt(abs(strength))
        signed = np.float32(np.copysign(root, strength))
        np.multiply(layer.down, signed, out=down[start:end])
        np.multiply(layer.up, np.float32(root), out=up[:, start:end])
    down[end:] = 0
    up[:, end:] = 0
    return down, up
