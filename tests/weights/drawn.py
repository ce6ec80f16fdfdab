"""Adapters that hypothesis draws, and their deltas written out, for the arithmetic's laws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from lorareg.registry.strength import Strength
from lorareg.weights.adapter import LoraAdapter, LoraLayer
from lorareg.weights.algebra import at

Dense = dict[str, NDArray[np.float64]]
Part = tuple[LoraAdapter, float]
MODULES: dict[str, tuple[int, tuple[int, ...]]] = {
    "down.to_q": (5, (7,)),
    "mid.to_v": (4, (3,)),
    "up.conv": (6, (2, 3, 3)),
    "up.proj": (3, (4, 1, 1)),
}
WEIGHTS = st.floats(-3, 3)


@st.composite
def adapters(draw: st.DrawFn, min_modules: int = 0) -> LoraAdapter:
    """An adapter of some of the modules; ranks, alphas and values are random."""
    names = draw(st.lists(st.sampled_from(sorted(MODULES)), unique=True, min_size=min_modules))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    layers = {}
    for name in names:
        out, down = MODULES[name]
        rank = draw(st.integers(1, 5))
        up = (out, rank) if len(down) == 1 else (out, rank, 1, 1)
        layers[name] = LoraLayer(
            random.standard_normal((rank, *down)).astype(np.float32),
            random.standard_normal(up).astype(np.float32),
            draw(st.floats(0.125, 64)),
        )
    return LoraAdapter(layers)


PARTS = st.lists(st.tuples(adapters(), WEIGHTS), max_size=3).flatmap(
    lambda parts: st.tuples(adapters(1), WEIGHTS).map(lambda first: [first, *parts])
)


def dense(parts: Sequence[Part]) -> Dense:
    """The sum of the deltas in float64, module by module; zero where nobody adapts a module."""
    sums = {n: np.zeros((out, int(np.prod(down)))) for n, (out, down) in MODULES.items()}
    for adapter, weight in parts:
        for name, layer in adapter.layers.items():
            up, down = (f.reshape(len(f), -1).astype(np.float64) for f in (layer.up, layer.down))
            sums[name] += weight * layer.alpha / layer.rank * (up @ down)
    return sums


def size(deltas: Dense) -> float:
    """Frobenius norm over all modules."""
    return float(np.sqrt(sum(np.sum(np.square(delta)) for delta in deltas.values())))


def gap(one: Dense, other: Dense) -> float:
    """Frobenius norm of the difference."""
    return size({name: one[name] - other[name] for name in MODULES})


def strengthened(parts: Sequence[Part]) -> list[LoraAdapter]:
    """The parts, each at its weight."""
    return [at(adapter, Strength(weight)) for adapter, weight in parts]


def squares(parts: Sequence[Part]) -> dict[str, list[float]]:
    """Squared singular values of the dense sum, falling."""
    return {
        name: [float(x) ** 2 for x in np.linalg.svd(delta, compute_uv=False)]
        for name, delta in dense(parts).items()
    }


def of_all_modules(wanted: Sequence[tuple[int, float]]) -> list[LoraAdapter]:
    """Adapters of all modules, of the (rank, scale) wanted."""
    random = np.random.default_rng(7)
    found = []
    for rank, scale in wanted:
        layers = {}
        for name, (out, down) in MODULES.items():
            up = (out, rank) if len(down) == 1 else (out, rank, 1, 1)
            layers[name] = LoraLayer(
                random.standard_normal((rank, *down)).astype(np.float32),
                random.standard_normal(up).astype(np.float32),
                scale * rank,
            )
        found.append(LoraAdapter(layers))
    return found
