"""How two states of an adapter differ in weight space, module by module, without a dense matrix.

With [B_1 B_2] = Q_B L and [A_1; A_2]^T = Q_A R, each delta is Q_B (L_i R_i^T) Q_A^T. Its small core
L_i R_i^T has the same norms, products and singular values: so factors of any rank are compared, and
other factors of one delta are no change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lorareg.weights import parallel
from lorareg.weights.adapter import LoraAdapter, LoraLayer
from lorareg.weights.algebra import check_shapes
from lorareg.weights.blocks import blocks
from lorareg.weights.stack import Matrix, size, stack

Where = Literal["both", "before", "after"]


@dataclass(frozen=True)
class Sums:
    """Two deltas and the way between them; all of it adds up over modules.

    Attributes:
        before: squared Frobenius norm of the old delta.
        after: of the new one.
        gap: of new - old.
        product: inner product of both.
    """

    before: float = 0.0
    after: float = 0.0
    gap: float = 0.0
    product: float = 0.0

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.before + other.before,
            self.after + other.after,
            self.gap + other.gap,
            self.product + other.product,
        )

    @property
    def norms(self) -> tuple[float, float]:
        """Frobenius norms before and after."""
        return math.sqrt(self.before), math.sqrt(self.after)

    @property
    def change(self) -> float | None:
        """|new - old| / |old|; None where there was nothing to change."""
        if self.before:
            return math.sqrt(self.gap / self.before)
        return None if self.gap else 0.0

    @property
    def cosine(self) -> float | None:
        """Between both deltas; None where one of them is nothing."""
        norms = math.prod(self.norms)
        if norms and not self.gap:
            return 1.0
        return max(-1.0, min(1.0, self.product / norms)) if norms else None

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {"change": self.change, "cosine": self.cosine, "norm": list(self.norms)}


@dataclass(frozen=True)
class Layer:
    """One module in both states.

    Attributes:
        where: which state adapts it.
        ranks: rows of ``down`` before and after; 0 where it is not adapted.
        effective: effective ranks before and after; see ``effective_rank``.
        magnitude: of a DoRA, relative change of the lengths it gives to rows; None of any other
            adapter, or where only one of the two has them. The delta of a DoRA is that of its
            factors, before rows are given their length.
    """

    module: str
    block: str
    where: Where
    sums: Sums
    ranks: tuple[int, int]
    effective: tuple[float, float]
    magnitude: float | None = None

    def document(self) -> dict[str, Any]:
        """For JSON."""
        magnitude = {} if self.magnitude is None else {"magnitude_change": self.magnitude}
        return {
            "module": self.module,
            "block": self.block,
            "in": self.where,
            **self.sums.document(),
            "rank": list(self.ranks),
            "effective_rank": list(self.effective),
            **magnitude,
        }


@dataclass(frozen=True)
class Block:
    """The modules of one block: sums over them, means of their effective ranks."""

    name: str
    modules: int
    sums: Sums
    effective: tuple[float, float]

    def document(self) -> dict[str, Any]:
        """For JSON."""
        told = {"block": self.name, "modules": self.modules, **self.sums.document()}
        return told | {"effective_rank": list(self.effective)}


@dataclass(frozen=True)
class Difference:
    """Two states, in the order in which a signal meets the modules."""

    layers: tuple[Layer, ...]

    @cached_property
    def whole(self) -> Sums:
        """Over all modules."""
        return reduce(Sums.__add__, (layer.sums for layer in self.layers), Sums())

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Block after block."""
        names = dict.fromkeys(layer.block for layer in self.layers)
        return tuple(_block(n, [x for x in self.layers if x.block == n]) for n in names)

    @cached_property
    def most_changed(self) -> tuple[Layer, ...]:
        """Changed modules, those first that moved farthest, whatever their size was before."""
        changed = [layer for layer in self.layers if layer.sums.gap or layer.magnitude]
        return tuple(sorted(changed, key=lambda layer: (-layer.sums.gap, layer.module)))

    def only(self, where: Where) -> list[str]:
        """Modules that only one state adapts."""
        return [layer.module for layer in self.layers if layer.where == where]

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **self.whole.document(),
            "only_before": self.only("before"),
            "only_after": self.only("after"),
            "blocks": [block.document() for block in self.blocks],
            "layers": [layer.document() for layer in self.layers],
        }


def compare(before: LoraAdapter, after: LoraAdapter, workers: int | None = None) -> Difference:
    """Compare two states of an adapter, or two adapters of one base.

    Law: equal deltas change nothing, whatever their factors; c times a delta has change |c - 1|
    and, for c > 0, cosine 1; the cosine is the same both ways.

    Raises:
        LoraregError: a module has different shapes in them: they belong to different bases.
    """
    places = blocks({*before.layers, *after.layers})
    one = partial(_layer, before.layers, after.layers, places)
    return Difference(tuple(parallel.each(one, places, workers)))


def effective_rank(values: NDArray[np.floating[Any]]) -> float:
    """How many directions a delta really uses: exp of the entropy of its singular values.

    With p = s / sum(s) it is exp(-sum p log p): k for k equal singular values, near 1 where one
    dominates, and never above the rank. Source: Roy and Vetterli, "The effective rank: a measure
    of effective dimensionality", EUSIPCO 2007.

    Args:
        values: singular values, in any order; without any the delta is zero and so is the result.
    """
    total = float(np.sum(values))
    shares = values[values > 0] / total if total else values[:0]
    return math.exp(-float(np.sum(shares * np.log(shares)))) if len(shares) else 0.0


def _layer(
    before: Mapping[str, LoraLayer],
    after: Mapping[str, LoraLayer],
    places: Mapping[str, str],
    module: str,
) -> Layer:
    pair = before.get(module), after.get(module)
    cores = _cores(module, *pair)
    olds, news = (float(np.sum(np.square(core))) for core in cores)
    where: Where = "both" if all(pair) else "before" if pair[0] else "after"
    same = _are_equal(*pair)
    gap = 0.0 if same else float(np.sum(np.square(cores[1] - cores[0])))
    return Layer(
        module,
        places[module],
        where,
        Sums(olds, news, gap, float(np.sum(cores[0] * cores[1]))),
        _both(layer.rank if layer else 0 for layer in pair),
        _both(effective_rank(np.linalg.svd(x, compute_uv=False)) for x in cores),
        _magnitude_change(*pair),
    )


def _cores(name: str, before: LoraLayer | None, after: LoraLayer | None) -> tuple[Matrix, Matrix]:
    """Both deltas in one pair of orthonormal bases; of a module that is not adapted, zeros."""
    check_shapes(name, [layer for layer in (before, after) if layer])
    parts = [LoraAdapter({name: layer} if layer else {}) for layer in (before, after)]
    found = stack(name, parts)
    left, right = (np.asarray(np.linalg.qr(x, mode="r")) for x in (found.up, found.down.T))
    old, new = (left[:, part] @ right[:, part].T for part in found.columns)
    return old, new


def _are_equal(one: LoraLayer | None, other: LoraLayer | None) -> bool:
    """Whether the very factors are the same: then not even rounding differs."""
    if one is None or other is None:
        return False
    same = np.array_equal(one.up, other.up) and np.array_equal(one.down, other.down)
    return same and one.scale == other.scale


def _magnitude_change(before: LoraLayer | None, after: LoraLayer | None) -> float | None:
    old, new = (x.magnitude if x else None for x in (before, after))
    if old is None or new is None:
        return None
    length = size(old.astype(np.float64))
    return size(new.astype(np.float64) - old) / length if length else None


def _block(name: str, layers: list[Layer]) -> Block:
    sums = reduce(Sums.__add__, (layer.sums for layer in layers), Sums())
    means = (sum(x.effective[side] for x in layers) / len(layers) for side in (0, 1))
    return Block(name, len(layers), sums, _both(means))


def _both(values: Iterable[Any]) -> tuple[Any, Any]:
    before, after = values
    return before, after
