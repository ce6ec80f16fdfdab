"""A module's sum within the directions that matter: small matrices that every rank is cut from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lorareg.weights.stack import NOISE, Matrix, Stack, inverse, root, significant, size

Truncate = Literal["optimal", "fair"]


@dataclass(frozen=True)
class Core:
    """Orthonormal directions U = B left and V^T = right A of a module, best first.

    The highest rank, K, is the smaller number of both: there the sum lies within the fewer ones,
    and all of the others serve.

    Attributes:
        left: (R, K1).
        right: (K2, R).
        middle: (K1, K2), U^T (B A) V: what the sum is in these directions.
        lost: (K + 1,), squared norm that is lost at each rank; at 0 that of the sum.
        kept: (parts, K + 1), squared norm of each part within the first directions.
        parts: (parts,), squared norm of each part.
        width: values that a rank costs, in + out.
    """

    left: Matrix
    right: Matrix
    middle: Matrix
    lost: Matrix
    kept: Matrix
    parts: Matrix
    width: int

    @property
    def rank(self) -> int:
        """The highest rank there is something to keep at."""
        return int(min(self.middle.shape))

    def halves(self, rank: int) -> tuple[Matrix, Matrix]:
        """Matrices X (R, rank) and Y (rank, R) of the delta (B X)(Y A), in balance."""
        rows, columns = self.middle.shape if rank == self.rank else (rank, rank)
        cut = self.middle[:rows, :columns]
        left, right = self.left[:, :rows], self.right[:columns]
        values = np.diagonal(cut)
        if rows == columns and np.array_equal(cut, np.diag(values)):
            half = np.sqrt(np.abs(values))
            return left * half, np.copysign(half, values)[:, None] * right
        u, values, v = np.linalg.svd(cut, full_matrices=False)
        half = np.sqrt(values)
        return left @ (u * half), (half[:, None] * v) @ right

    def worth(self, wholes: Matrix, truncate: Truncate) -> Matrix:
        """(K,), what each direction holds, falling: of the sum, or of the parts alike.

        Args:
            wholes: (parts,), squared norm of each part over all modules.
            truncate: "fair" counts shares of the parts.
        """
        if truncate == "optimal":
            return -np.diff(self.lost)
        shares = inverse(wholes) @ np.diff(self.kept, axis=1)
        return np.minimum.accumulate(shares)


def decompose(stack: Stack, truncate: Truncate) -> Core:
    """Find a module's directions.

    "optimal": the singular vectors of the sum. "fair": those of all parts beside each other, each
    at norm 1, so that a loud part takes no more of them than a quiet one.
    """
    left, right = root(stack.up), root(stack.down.T)
    find = _fair if truncate == "fair" else _optimal
    u, v, x, y, middle, lost = find(left, right, stack)
    kept, parts = [], []
    for part in stack.columns:
        inside = (u.T @ left[:, part]) @ (v.T @ right[:, part]).T
        kept.append(np.append(0, _leading(inside)))
        parts.append(size(left[:, part] @ right[:, part].T) ** 2)
    width = len(stack.up) + stack.down.shape[1]
    return Core(x, y.T, middle, lost, np.array(kept), np.array(parts), width)


def basis(factor: Matrix, blocks: Matrix, most: int) -> tuple[Matrix, Matrix]:
    """U (R', K), left singular vectors of ``factor @ blocks``, and X (R, K): U = factor X.

    Args:
        factor: (R', R).
        blocks: (R, columns).
        most: upper bound of K: the rows of the matrix that ``factor`` stands for.
    """
    u, values, v = np.linalg.svd(factor @ blocks, full_matrices=False)
    kept = min(significant(values, factor, blocks), most)
    return u[:, :kept], blocks @ (v[:kept].T * inverse(values[:kept]))


def diagonal(blocks: Sequence[Matrix]) -> Matrix:
    """Matrices along a diagonal, zeros elsewhere."""
    whole = np.zeros(tuple(np.sum([block.shape for block in blocks], axis=0)))
    row = column = 0
    for block in blocks:
        rows, columns = block.shape
        whole[row : row + rows, column : column + columns] = block
        row, column = row + rows, column + columns
    return whole


def _optimal(left: Matrix, right: Matrix, stack: Stack) -> tuple[Matrix, ...]:
    u, values, vt = np.linalg.svd(left @ right.T, full_matrices=False)
    most = min(len(stack.up), stack.down.shape[1])
    kept = min(significant(values, left, right.T), most)
    u, v, inverted = u[:, :kept], vt[:kept].T, inverse(values[:kept])
    lost = np.append(np.square(values)[::-1].cumsum()[::-1], 0)[: kept + 1]
    return u, v, right.T @ v * inverted, left.T @ u * inverted, np.diag(values[:kept]), lost


def _fair(left: Matrix, right: Matrix, stack: Stack) -> tuple[Matrix, ...]:
    sizes = np.array([size(left[:, part] @ right[:, part].T) for part in stack.columns])
    (u, x), (v, y) = (
        basis(one, _at_norm_one(other, stack.columns, sizes), width)
        for one, other, width in (
            (left, right, len(stack.up)),
            (right, left, stack.down.shape[1]),
        )
    )
    core = left @ right.T
    middle = u.T @ core @ v
    whole = float(np.sum(np.square(core)))
    return u, v, x, y, middle, np.append(whole, np.maximum(whole - _leading(middle), 0))


def _at_norm_one(other: Matrix, columns: Sequence[slice], sizes: Matrix) -> Matrix:
    """What makes a part's factor its delta of norm 1, up to a rotation; one block a part.

    A part that is nothing beside the loudest gets no say: it is below float32's rounding.
    """
    scales = inverse(np.where(sizes > NOISE * sizes.max(), sizes, 0))
    return diagonal(
        [root(other[:, part]).T * scale for part, scale in zip(columns, scales, strict=True)]
    )


def _leading(matrix: Matrix) -> Matrix:
    """Squared norms of the leading 1 x 1, 2 x 2 ... blocks, and of the whole matrix at last."""
    sums = np.square(matrix).cumsum(axis=0).cumsum(axis=1)
    return np.append(np.diagonal(sums)[:-1], sums[-1, -1])
