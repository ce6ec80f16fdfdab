"""TSV-M: the singular vectors of all parts, made orthogonal to each other.

With delta_i = U_i S_i V_i^T, the vectors of all parts side by side are replaced by the nearest
orthonormal ones (their polar factor), so that no part speaks in another's directions.
Source: arXiv 2412.00081, sections 4.1 and 4.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from lorareg.weights import parallel
from lorareg.weights.adapter import LoraAdapter, LoraLayer
from lorareg.weights.algebra import check_shapes, modules
from lorareg.weights.stack import Matrix, inverse, thin, to_layer

SMALLEST = 1e-10  # of the squared lengths below, the largest being 1 or more: rounding


def merge(parts: Sequence[LoraAdapter]) -> LoraAdapter:
    """The parts, each at its strength, merged in every module."""
    names = modules(parts)
    layers = parallel.each(partial(_layer, parts), names)
    return LoraAdapter(dict(zip(names, layers, strict=True)))


def polar(matrix: Matrix) -> Matrix:
    """The nearest matrix (rows, k) with orthonormal columns.

    Columns that depend on each other share their directions: equal ones of two parts become halves
    of one, so the merge of an adapter with itself is that adapter.
    """
    squares, vectors = np.linalg.eigh(matrix.T @ matrix)
    shrink = inverse(np.sqrt(np.where(squares > SMALLEST, squares, 0)))
    return np.asarray(matrix @ (vectors * shrink) @ vectors.T)


def _layer(parts: Sequence[LoraAdapter], name: str) -> LoraLayer:
    layers = [adapter.layers[name] for adapter in parts if name in adapter.layers]
    check_shapes(name, layers)
    alone = [thin(layer) for layer in layers]
    found = [x for x in alone if x.values.any()] or alone[:1]  # zeros would disturb the others
    share = max(1, min(len(found[0].u), found[0].v.shape[1]) // len(found))  # 1/K of the vectors
    values = np.concatenate([x.values[:share] for x in found])
    u = np.concatenate([x.u[:, :share] for x in found], axis=1)
    v = np.concatenate([x.v[:share] for x in found]).T
    u, v, values = polar(u), polar(v), np.sqrt(values)
    return to_layer(u * values, values[:, None] * v.T, layers[0])
