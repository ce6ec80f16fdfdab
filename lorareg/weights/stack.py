"""One module of several adapters: their factors side by side, and what they span.

With B = [B_1 .. B_K] and A = [A_1; .. A_K], a sum of a lower rank is (B X)(Y A) with two small
matrices X and Y. They are found from the small L and R of B = Q_B L and A^T = Q_A R alone: neither
the dense delta nor the long orthogonal factors are ever made.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lorareg.weights.adapter import Array, LoraAdapter, LoraLayer, flat
from lorareg.weights.algebra import check_shapes

Matrix = NDArray[np.float64]
NOISE = 1e-8  # square root of float64's precision: what is smaller is rounding


@dataclass(frozen=True)
class Stack:
    """The stacked factors of one module, strengths folded in.

    Attributes:
        up: (out, R).
        down: (R, in), a kernel flattened.
        columns: of each part; empty where it does not adapt the module.
        like: a layer of the module, for its shape.
    """

    up: Matrix
    down: Matrix
    columns: tuple[slice, ...]
    like: LoraLayer

    def layer(self, left: Matrix, right: Matrix) -> LoraLayer:
        """The layer of delta (up left)(right down), at scale 1.

        Args:
            left: (R, rank).
            right: (rank, R).
        """
        return to_layer(self.up @ left, right @ self.down, self.like)


@dataclass(frozen=True)
class Thin:
    """The thin SVD of a delta: ``u`` (out, k), ``values`` (k,) falling, ``v`` (k, in)."""

    u: Matrix
    values: Matrix
    v: Matrix


def stack(name: str, parts: Sequence[LoraAdapter]) -> Stack:
    """The factors of all parts for one module, each scaled by sqrt|s|, the sign in ``down``.

    Raises:
        LoraregError: the parts give the module different shapes.
    """
    layers = [adapter.layers.get(name) for adapter in parts]
    there = [layer for layer in layers if layer is not None]
    check_shapes(name, there)
    rank, like = sum(layer.rank for layer in there), there[0]
    up = np.empty((like.up.shape[0], rank))
    down = np.empty((rank, flat(like.down).shape[1]))
    columns, end = [], 0
    for layer in layers:
        start, end = end, end + (layer.rank if layer is not None else 0)
        columns.append(slice(start, end))
        if layer is not None:
            root = np.sqrt(abs(layer.scale))
            np.multiply(flat(layer.up), root, out=up[:, start:end])
            np.multiply(flat(layer.down), np.copysign(root, layer.scale), out=down[start:end])
    return Stack(up, down, tuple(columns), like)


def root(factor: Matrix) -> Matrix:
    """T with T^T T = F^T F of a tall matrix F: the R of its QR, or as good as that, without Q.

    Cholesky of the Gram matrix costs a fifth of Householder's QR; in float64 it is exact to 1e-8 of
    F, below the rounding of float32 factors. Where columns depend on each other there is none, and
    the eigenvectors of the Gram matrix serve instead.
    """
    gram = factor.T @ factor
    with suppress(np.linalg.LinAlgError):
        return np.asarray(np.linalg.cholesky(gram).T)
    lengths = np.sqrt(np.diagonal(gram))  # a loud part must not drown a quiet one
    scales = inverse(lengths)
    squares, vectors = np.linalg.eigh(gram * scales[:, None] * scales)
    smallest = len(squares) ** 2 * np.finfo(np.float64).eps
    values = np.sqrt(np.where(squares > smallest, squares, 0))
    return np.asarray(values[:, None] * vectors.T * lengths)


def thin(layer: LoraLayer) -> Thin:
    """The SVD of a layer's delta from its factors; directions without weight are left out.

    At least one direction is kept, so a delta of zero has one of value 0.
    """
    up, down = flat(layer.up).astype(np.float64), flat(layer.down).astype(np.float64)
    left, upper = np.linalg.qr(up)
    right, lower = np.linalg.qr(down.T)
    u, values, v = np.linalg.svd(layer.scale * (upper @ lower.T))
    kept = significant(values, layer.scale * upper, lower.T)
    return Thin(left @ u[:, :kept], values[:kept], v[:kept] @ right.T)


def significant(values: Matrix, one: Matrix, other: Matrix) -> int:
    """How many of the falling singular values of ``one @ other`` are no rounding, at least one.

    The sizes of the terms that were added up say how large rounding is: they may have cancelled.
    """
    terms = np.linalg.norm(one, axis=0) * np.linalg.norm(other, axis=1)
    return max(1, int(np.sum(values > NOISE * np.sum(terms))))


def size(matrix: Matrix) -> float:
    """Frobenius norm."""
    return float(np.linalg.norm(matrix))


def inverse(values: Matrix) -> Matrix:
    """1 / values, and 0 where they are 0 or so small that it would be infinite."""
    large_enough = values > np.finfo(np.float64).tiny
    return np.divide(1.0, values, out=np.zeros_like(values), where=large_enough)


def to_layer(up: Matrix, down: Matrix, like: LoraLayer) -> LoraLayer:
    """A layer at scale 1 of the same module as ``like``, whose kernel ``down`` gets."""
    rank = len(down)
    return LoraLayer(_f32(down, like.down, rank, 0), _f32(up, like.up, rank, 1), float(rank))


def _f32(values: Matrix, like: Array, rank: int, axis: int) -> Array:
    shape = list(like.shape)
    shape[axis] = rank
    return values.reshape(shape).astype(np.float32)
