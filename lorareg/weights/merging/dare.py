"""DARE on rank-one components: drop whole directions of an adapter, and scale up the rest.

Dropping entries of A and B apart, as mergers do, leaves cross terms; a component of the SVD is
dropped or kept as a whole. On average over seeds the delta stays as it was.
Source: arXiv 2311.03099.
"""

from __future__ import annotations

import hashlib
from functools import partial

import numpy as np

from lorareg.weights import parallel
from lorareg.weights.adapter import LoraAdapter, LoraLayer
from lorareg.weights.stack import thin, to_layer


def drop(adapter: LoraAdapter, keep: float, seed: str) -> LoraAdapter:
    """Every component stays with probability ``keep``, then 1 / keep as strong.

    Args:
        adapter: at its strength.
        keep: 0 (exclusive) to 1.
        seed: of the draws; each module draws by its name, so that the order of work, and modules
            that other parts adapt, change nothing.
    """
    names = sorted(adapter.layers)
    layers = parallel.each(partial(_layer, adapter, keep, seed), names)
    return LoraAdapter(dict(zip(names, layers, strict=True)))


def kept(count: int, keep: float, seed: str, module: str) -> list[int]:
    """Which of a module's components stay, strongest first."""
    digest = hashlib.sha256(f"{seed}/{module}".encode()).digest()
    draws = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
    return [int(index) for index in np.flatnonzero(draws.random(count) < keep)]


def _layer(adapter: LoraAdapter, keep: float, seed: str, name: str) -> LoraLayer:
    layer = adapter.layers[name]
    found = thin(layer)
    chosen = kept(len(found.values), keep, seed, name)
    if not chosen:  # a layer has at least one component: here of strength 0
        return to_layer(np.zeros_like(found.u[:, :1]), found.v[:1], layer)
    values = np.sqrt(found.values[chosen] / keep)
    return to_layer(found.u[:, chosen] * values, values[:, None] * found.v[chosen], layer)
