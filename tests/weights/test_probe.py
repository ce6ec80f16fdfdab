"""Probes tell whether two files have one delta, whoever made them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from lorareg.weights import probe
from lorareg.weights.adapter import LoraAdapter, LoraLayer
from lorareg.weights.algebra import relative_difference, weighted_sum

MakeAdapter = Callable[..., LoraAdapter]
MakeLayer = Callable[..., LoraLayer]
SHAPES = {f"block.{n}.to_q": (40, (30,)) for n in range(6)} | {"conv": (8, (4, 3, 3))}
RANKS = dict.fromkeys(SHAPES, (4, 2.0))


@pytest.fixture
def adapter(make_adapter: MakeAdapter) -> LoraAdapter:
    return make_adapter(SHAPES, RANKS)


def mixed(layer: LoraLayer, seed: int) -> LoraLayer:
    """The same delta in other factors, and another alpha."""
    matrix = np.random.default_rng(seed).normal(size=(layer.rank, layer.rank))
    down = np.tensordot(matrix, layer.down, axes=1).astype(np.float32)
    inverse = np.linalg.inv(matrix).astype(np.float32)
    up = np.moveaxis(np.tensordot(inverse.T, np.moveaxis(layer.up, 1, 0), axes=1), 0, 1)
    return replace(layer, down=down, up=2 * up, alpha=layer.alpha / 2)


def test_other_factors_of_the_same_delta_have_the_same_probes(adapter: LoraAdapter) -> None:
    other = LoraAdapter({n: mixed(x, i) for i, (n, x) in enumerate(adapter.layers.items())})

    found = probe.compare(probe.take(other), probe.take(adapter))

    assert found.difference < 1e-5
    assert (found.missing, found.extra) == ((), ())


@pytest.mark.parametrize("size", [1e-3, 1e-1, 1.0])
def test_the_difference_is_estimated_within_a_factor_of_two(
    adapter: LoraAdapter, make_layer: MakeLayer, size: float
) -> None:
    noise = LoraAdapter(
        {
            f"unet.{name}": make_layer(4, 2.0, down, out, seed)
            for seed, (name, (out, down)) in enumerate(SHAPES.items(), start=50)
        }
    )
    other = weighted_sum([(adapter, 1.0), (noise, size)])

    estimated = probe.compare(probe.take(other), probe.take(adapter)).difference

    assert estimated == pytest.approx(relative_difference(other, adapter), rel=0.5)


def test_a_module_that_was_left_out_is_named(adapter: LoraAdapter) -> None:
    less = LoraAdapter({n: x for n, x in adapter.layers.items() if n != "unet.conv"})

    found = probe.compare(probe.take(less), probe.take(adapter))

    assert found.missing == ("unet.conv",)
    assert found.worst is not None
    assert found.difference > 0.01


def test_a_module_without_effect_counts_as_absent(adapter: LoraAdapter) -> None:
    layers = dict(adapter.layers)
    layers["unet.conv"] = replace(layers["unet.conv"], alpha=0.0)

    assert "unet.conv" not in probe.take(LoraAdapter(layers))


def test_the_signs_never_change() -> None:
    assert probe.signs("unet.mid:in", 12).tolist() == [
        1, 1, 1, 1, -1, -1, -1, 1, 1, 1, -1, 1,
    ]  # fmt: skip
