"""Every merge as its paper writes it, on dense matrices; and parts to try it on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from lorareg.registry.strength import Strength
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.algebra import at
from tests.weights.drawn import MODULES, Dense, adapters, dense, size

Matrix = NDArray[np.float64]


def strong(adapter: LoraAdapter, weight: float) -> LoraAdapter:
    return at(adapter, Strength(weight))


ADAPTERS = st.builds(strong, adapters(1), st.sampled_from([-2.0, -0.5, 0.25, 1.0, 3.0]))
PARTS = st.lists(ADAPTERS, min_size=1, max_size=4)


def deltas(parts: Sequence[LoraAdapter], name: str) -> list[Matrix]:
    """Of the parts that adapt the module."""
    return [dense([(part, 1.0)])[name] for part in parts if name in part.layers]


def total(parts: Sequence[LoraAdapter]) -> float:
    """What rounding is measured against."""
    return sum(size(dense([(part, 1.0)])) for part in parts)


def by_module(parts: Sequence[LoraAdapter], merge: object) -> Dense:
    """A dense procedure in every module that a part adapts; zeros elsewhere."""
    assert callable(merge)
    return {
        name: merge(found)
        if (found := deltas(parts, name))
        else np.zeros((out, int(np.prod(down))))
        for name, (out, down) in MODULES.items()
    }


def svd(delta: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Without the directions that are rounding."""
    u, s, v = np.linalg.svd(delta, full_matrices=False)
    kept = int(np.sum(s > 1e-9 * s[0]))
    return u[:, :kept], s[:kept], v[:kept]


def knots_ties(found: Sequence[Matrix], keep: float) -> Matrix:
    """SVD of all deltas side by side, TIES on the blocks of S V."""
    u, s, v = svd(np.concatenate(found, axis=1))
    blocks = np.split(s[:, None] * v, len(found), axis=1)
    trimmed = []
    for block in blocks:
        order = np.argsort(-np.abs(block), axis=None)[: max(1, int(keep * block.size))]
        mask = np.zeros(block.size)
        mask[order] = 1
        trimmed.append(block * mask.reshape(block.shape))
    merged = np.zeros_like(blocks[0])
    for place in np.ndindex(merged.shape):
        entries = np.array([block[place] for block in trimmed])
        agreed = entries[np.sign(entries) == np.sign(entries.sum())]
        agreed = agreed[agreed != 0]
        merged[place] = agreed.mean() if len(agreed) else 0.0
    return np.asarray(u @ merged)


def tsv(found: Sequence[Matrix]) -> Matrix:
    """1/K of the singular vectors of each, made orthogonal by the polar factor."""
    parts = [svd(delta) for delta in found]
    share = max(1, min(found[0].shape) // len(found))
    u = _polar(np.concatenate([u[:, :share] for u, _, _ in parts], axis=1))
    s = np.concatenate([s[:share] for _, s, _ in parts])
    v = _polar(np.concatenate([v[:share].T for _, _, v in parts], axis=1))
    return np.asarray(u @ np.diag(s) @ v.T)


def _polar(matrix: Matrix) -> Matrix:
    """Without the directions of columns that depend on each other: there it is not unique."""
    p, s, q = np.linalg.svd(matrix, full_matrices=False)
    return np.asarray(p[:, s > 1e-4] @ q[s > 1e-4])


def null_space(protected: Matrix, injected: Matrix, mu: float) -> Matrix:
    """The injected delta with the rows of the protected one softened away."""
    _, _, v = svd(protected)
    return np.asarray(injected @ (np.eye(v.shape[1]) - mu / (1 + mu) * v.T @ v))


def components(delta: Matrix, chosen: Sequence[int], keep: float) -> Matrix:
    """Some components of a delta, scaled up for the dropped ones."""
    u, s, v = svd(delta)
    return sum((s[i] / keep * np.outer(u[:, i], v[i]) for i in chosen), np.zeros(delta.shape))
