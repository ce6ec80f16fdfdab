"""Random adapters, from a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from lorareg.weights.adapter import LoraAdapter, LoraLayer

Shape = tuple[int, ...]
MakeLayer = Callable[..., LoraLayer]
MakeAdapter = Callable[..., LoraAdapter]


def random_layer(
    rank: int, alpha: float, down: Shape = (6,), out: int = 5, seed: int = 0
) -> LoraLayer:
    """A layer; ``down`` is its shape behind the rank: (in,), or (in, height, width)."""
    random = np.random.default_rng(seed)
    up = (out, rank) if len(down) == 1 else (out, rank, 1, 1)
    return LoraLayer(
        random.standard_normal((rank, *down)).astype(np.float32),
        random.standard_normal(up).astype(np.float32),
        alpha,
    )


def random_adapter(
    modules: Mapping[str, tuple[int, Shape]],
    settings: Mapping[str, tuple[int, float]],
    component: str = "unet",
) -> LoraAdapter:
    """An adapter of a model with ``modules`` (out, down), with (rank, alpha) for some of them."""
    prefix = f"{component}." if component else ""
    layers = {
        f"{prefix}{name}": random_layer(rank, alpha, modules[name][1], modules[name][0], seed)
        for seed, (name, (rank, alpha)) in enumerate(settings.items())
    }
    return LoraAdapter(layers)


@pytest.fixture
def make_layer() -> MakeLayer:
    return random_layer


@pytest.fixture
def make_adapter() -> MakeAdapter:
    return random_adapter
