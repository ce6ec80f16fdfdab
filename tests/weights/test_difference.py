"""What a difference in weight space says, held against the dense deltas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorareg.errors import LoraregError
from lorareg.registry.strength import Strength
from lorareg.weights import algebra, stack
from lorareg.weights.adapter import LoraAdapter, LoraLayer
from lorareg.weights.difference import Layer, compare, effective_rank
from tests.weights.conftest import MakeAdapter
from tests.weights.drawn import adapters, dense
from tests.weights.planted import SMALL, sharing

SHAPES = {"mid_block.to_q": (9, (7,)), "mid_block.to_v": (8, (6,))}


def other_factors(adapter: LoraAdapter) -> LoraAdapter:
    """The same deltas, from the factors of their singular value decomposition."""
    found = {}
    for name, layer in adapter.layers.items():
        thin = stack.thin(layer)
        found[name] = stack.to_layer(thin.u * thin.values, thin.v, layer)
    return LoraAdapter(found)


@given(adapters(1), adapters(1))
def test_every_figure_is_that_of_the_dense_deltas(one: LoraAdapter, other: LoraAdapter) -> None:
    old, new = dense([(one, 1.0)]), dense([(other, 1.0)])

    found = compare(one, other)

    assert {layer.module for layer in found.layers} == {*one.layers, *other.layers}
    for layer in found.layers:
        a, b = old[layer.module], new[layer.module]
        sizes = np.linalg.norm(a), np.linalg.norm(b)
        assert layer.sums.norms == pytest.approx(sizes)
        if sizes[0]:
            assert layer.sums.change == pytest.approx(np.linalg.norm(b - a) / sizes[0])
        if all(sizes):
            assert layer.sums.cosine == pytest.approx(np.sum(a * b) / np.prod(sizes), abs=1e-9)
        for rank, delta in zip(layer.effective, (a, b), strict=True):
            assert rank == pytest.approx(effective_rank(np.linalg.svd(delta, compute_uv=False)))


@given(adapters(1))
def test_an_adapter_does_not_differ_from_itself(adapter: LoraAdapter) -> None:
    found = compare(adapter, adapter)

    assert found.most_changed == ()
    assert {layer.sums.change for layer in found.layers} == {0.0}
    assert [layer.sums.cosine for layer in found.layers] == pytest.approx(
        [1.0] * len(adapter.layers)
    )


@given(adapters(1))
def test_other_factors_of_the_same_delta_are_no_change(adapter: LoraAdapter) -> None:
    found = compare(adapter, other_factors(adapter))

    assert all((layer.sums.change or 0) < 1e-6 for layer in found.layers)
    assert found.whole.cosine == pytest.approx(1.0, abs=1e-12)


@given(adapters(1), st.floats(0.01, 5))
def test_a_stronger_delta_keeps_its_direction(adapter: LoraAdapter, factor: float) -> None:
    found = compare(adapter, algebra.at(adapter, Strength(factor)))

    for layer in found.layers:
        assert layer.sums.change == pytest.approx(abs(factor - 1), abs=1e-9)
        assert layer.sums.cosine == pytest.approx(1.0)
        assert layer.effective[0] == pytest.approx(layer.effective[1])


@given(adapters(1), adapters(1))
def test_the_cosine_is_the_same_both_ways(one: LoraAdapter, other: LoraAdapter) -> None:
    forth, back = compare(one, other), compare(other, one)

    assert [x.sums.cosine for x in forth.layers] == pytest.approx(
        [x.sums.cosine for x in back.layers], abs=1e-12
    )
    assert forth.whole.gap == pytest.approx(back.whole.gap)


def test_another_rank_of_the_same_delta_is_no_change(make_adapter: MakeAdapter) -> None:
    small = make_adapter(SHAPES, {"mid_block.to_q": (3, 3.0)})
    padded = {}
    for name, x in small.layers.items():
        down, up = np.pad(x.down, [(0, 5), (0, 0)]), np.pad(x.up, [(0, 0), (0, 5)])
        padded[name] = LoraLayer(down, up, x.scale * 8)

    (layer,) = compare(small, LoraAdapter(padded)).layers

    assert layer.ranks == (3, 8)
    assert layer.sums.change == pytest.approx(0, abs=1e-12)
    assert layer.effective[0] == pytest.approx(layer.effective[1])


def test_a_module_of_one_state_only_is_named_and_counted(make_adapter: MakeAdapter) -> None:
    before = make_adapter(SHAPES, {"mid_block.to_q": (2, 2.0)})
    after = make_adapter(SHAPES, {"mid_block.to_v": (3, 3.0)})

    found = compare(before, after)

    assert found.only("before") == ["unet.mid_block.to_q"]
    assert found.only("after") == ["unet.mid_block.to_v"]
    gone, new = found.layers
    assert (gone.ranks, gone.sums.change, gone.sums.cosine) == ((2, 0), 1.0, None)
    assert (new.ranks, new.sums.change) == ((0, 3), None), "nothing was there to change"
    assert found.whole.gap == pytest.approx(gone.sums.before + new.sums.after)


def test_what_moved_farthest_comes_first_and_blocks_add_up() -> None:
    before, after = sharing(SMALL, [4, 4], 0.5)
    name = "unet.mid_block.attentions.0.to_q"
    loud = replace(after.layers[name], alpha=10 * after.layers[name].alpha)
    after = LoraAdapter({**after.layers, name: loud})

    found = compare(before, after)

    assert found.most_changed[0].module == name
    assert [block.name for block in found.blocks] == ["down.1", "mid", "up.1"]
    assert sum(block.sums.gap for block in found.blocks) == pytest.approx(found.whole.gap)
    assert found.whole.cosine == pytest.approx(algebra.cosine(before, after))
    assert found.whole.change == pytest.approx(algebra.relative_difference(after, before), rel=1e-6)


@pytest.mark.parametrize(
    ("values", "rank"), [([2.0, 2.0, 2.0], 3.0), ([5.0, 0.0], 1.0), ([0.0], 0.0), ([], 0.0)]
)
def test_the_effective_rank_counts_equal_directions(values: list[float], rank: float) -> None:
    assert effective_rank(np.array(values)) == pytest.approx(rank)


def test_adapters_of_other_shapes_belong_to_other_bases(make_adapter: MakeAdapter) -> None:
    one = make_adapter(SHAPES, {"mid_block.to_q": (2, 2.0)})
    other = make_adapter({"mid_block.to_q": (5, (7,))}, {"mid_block.to_q": (2, 2.0)})

    with pytest.raises(LoraregError, match="different shapes"):
        compare(one, other)


def test_the_lengths_that_a_dora_gives_are_compared_too(make_adapter: MakeAdapter) -> None:
    plain = make_adapter(SHAPES, {"mid_block.to_q": (2, 2.0)}).layers["unet.mid_block.to_q"]

    def dora(length: float) -> LoraAdapter:
        return LoraAdapter({"m": replace(plain, magnitude=np.full(9, length, np.float32))})

    (layer,) = compare(dora(2.0), dora(3.0)).layers
    (mixed,) = compare(LoraAdapter({"m": plain}), dora(3.0)).layers

    assert (layer.sums.change, layer.magnitude) == (0.0, pytest.approx(0.5))
    assert mixed.magnitude is None


def test_json_says_nothing_that_json_cannot_say(make_adapter: MakeAdapter) -> None:
    one = make_adapter(SHAPES, {"mid_block.to_q": (2, 2.0)})
    zero = replace(one.layers["unet.mid_block.to_q"], alpha=0.0)

    document = compare(LoraAdapter({"unet.mid_block.to_q": zero}), one).document()

    assert document["change"] is None
    assert document["cosine"] is None
    assert isinstance(compare(one, one).layers[0], Layer)
