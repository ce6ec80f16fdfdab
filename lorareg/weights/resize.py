"""Another rank or strength for a layer: the same delta, or the nearest one of a lower rank.

Raising a rank by padding both factors with zeros gives rows that never learn: each factor's
gradient is a product with the other. So a grown layer gets random rows in ``down`` and zeros only
in ``up``, as a fresh layer has them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lorareg.weights.adapter import Array, LoraAdapter, LoraLayer, flat
from lorareg.weights.algebra import inner


def to_scale(layer: LoraLayer, scale: float) -> LoraLayer:
    """The same delta at another alpha / rank.

    The quotient goes into ``up``: the rows of ``down`` keep the size they were drawn and trained
    with, so one learning rate suits them and fresh rows beside them.
    """
    if scale == layer.scale:
        return layer
    up = layer.up.astype(np.float64) * (layer.scale / scale)
    return replace(layer, up=up.astype(np.float32), alpha=scale * layer.rank)


def grow(layer: LoraLayer, rank: int, fresh_down_rows: Array) -> LoraLayer:
    """The same delta and scale at a higher rank: new rows in ``down``, zero columns in ``up``.

    Args:
        layer: of a lower rank.
        rank: to grow to.
        fresh_down_rows: (rank - layer.rank, in), or with (height, width) behind.
    """
    new = fresh_down_rows.shape[0]
    zeros = np.zeros((layer.up.shape[0], new, *layer.up.shape[2:]), np.float32)
    if layer.rank + new != rank:
        raise ValueError(f"rank {layer.rank} and {new} new rows are not rank {rank}")
    return replace(
        layer,
        down=np.concatenate([layer.down, fresh_down_rows]),
        up=np.concatenate([layer.up, zeros], axis=1),
        alpha=layer.scale * rank,
    )


def shrink(layer: LoraLayer, rank: int) -> tuple[LoraLayer, float]:
    """The nearest delta of a lower rank (Eckart and Young), and what it lost.

    QR of both thin factors leaves an SVD of rank x rank: exact, and without the dense matrix. The
    new rows of ``down`` are orthogonal and as long as the old ones on average.

    Returns:
        The layer, at the same scale and of rank ``rank``, or lower where the module has fewer
        inputs or outputs than that; and the sum of the squared singular values left out.
    """
    up, down = _double(layer.up), _double(layer.down)
    left, upper = np.linalg.qr(up)
    right, lower = np.linalg.qr(down.T)
    u, values, v = np.linalg.svd(upper @ lower.T)
    kept = min(rank, len(values))
    length = float(np.sqrt(np.mean(np.sum(np.square(down), axis=1)))) or 1.0
    new_up = left @ (u[:, :kept] * values[:kept]) / length
    new_down = length * (v[:kept] @ right.T)
    smaller = replace(
        layer,
        down=new_down.reshape(kept, *layer.down.shape[1:]).astype(np.float32),
        up=new_up.reshape(-1, kept, *layer.up.shape[2:]).astype(np.float32),
        alpha=layer.scale * kept,
    )
    return smaller, float(layer.scale**2 * np.sum(np.square(values[kept:])))


def fit(adapter: LoraAdapter, fresh: LoraAdapter) -> tuple[LoraAdapter, float]:
    """Bring every layer to the rank and scale of ``fresh``, whose rows fill what grows.

    Args:
        adapter: adapts no module that ``fresh`` lacks.
        fresh: untrained; layers that only it has stay as they are.

    Returns:
        The adapter in the shapes of ``fresh``, and the share of the squared norm of its delta that
        lower ranks could not hold.
    """
    layers, lost = dict(fresh.layers), 0.0
    for name, layer in adapter.layers.items():
        target = fresh.layers[name]
        if target.rank < layer.rank:
            layer, dropped = shrink(layer, target.rank)
            lost += dropped
        if target.rank > layer.rank:
            layer = grow(layer, target.rank, target.down[layer.rank :])
        layers[name] = replace(to_scale(layer, target.scale), alpha=target.alpha)
    return LoraAdapter(layers), lost / (_energy(adapter) or 1.0)


def error(now: LoraAdapter, before: LoraAdapter) -> float:
    """|now - before| / |before| over the modules of ``before``, measured in float64."""
    gap = sum(distance(now.layers[name], layer) ** 2 for name, layer in before.layers.items())
    return float(np.sqrt(gap / (_energy(before) or 1.0)))


def distance(one: LoraLayer, other: LoraLayer) -> float:
    """Frobenius norm of the difference of two deltas of one module.

    From the triangles of the stacked factors: their Gram matrices would square the rounding
    errors away with the difference.
    """
    ups = np.concatenate([one.scale * _double(one.up), -other.scale * _double(other.up)], axis=1)
    downs = np.concatenate([_double(one.down), _double(other.down)])
    _, left = np.linalg.qr(ups)
    _, right = np.linalg.qr(downs.T)
    return float(np.linalg.norm(left @ right.T))


def _energy(adapter: LoraAdapter) -> float:
    return sum(max(inner(layer, layer), 0.0) for layer in adapter.layers.values())


def _double(factor: Array) -> NDArray[np.float64]:
    return flat(factor).astype(np.float64)
