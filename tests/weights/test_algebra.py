from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given

from lorareg.errors import LoraregError
from lorareg.weights import algebra
from lorareg.weights.adapter import LoraAdapter, LoraLayer
from lorareg.weights.algebra import cosine, norm, relative_difference, weighted_sum
from lorareg.weights.formats.pairs import PEFT_ENDINGS, raw_layers, read_layers
from tests.weights.drawn import MODULES, PARTS, WEIGHTS, adapters, dense, gap, size


@given(PARTS)
def test_the_sum_is_the_weighted_sum_of_the_deltas(
    parts: list[tuple[LoraAdapter, float]],
) -> None:
    total = weighted_sum(parts)

    found, expected = dense([(total, 1.0)]), dense(parts)
    scale = sum(size(dense([part])) for part in parts)
    assert gap(found, expected) <= max(1e-6 * scale, 1e-30)  # float32 holds nothing smaller
    assert total.layers.keys() == {name for adapter, _ in parts for name in adapter.layers}


@given(PARTS)
def test_a_rank_stabilised_part_counts_with_alpha_over_the_root_of_its_rank(
    parts: list[tuple[LoraAdapter, float]],
) -> None:
    settings = {"use_rslora": True, "r": 1, "lora_alpha": 3.0}
    stabilised, expected = [], []
    for adapter, weight in parts:
        ranks = {f"^{name}": layer.rank for name, layer in adapter.layers.items()}
        raw = raw_layers(adapter.layers, "", PEFT_ENDINGS)
        told = settings | {"rank_pattern": ranks}
        read = read_layers("a file", raw, "", [PEFT_ENDINGS], told) if raw else {}
        stabilised.append((LoraAdapter(read), weight))
        expected.append(
            (LoraAdapter({n: LoraLayer(x.down, x.up, 3.0 * x.rank**0.5)
                          for n, x in adapter.layers.items()}), weight)
        )  # fmt: skip

    total = weighted_sum(stabilised)

    scale = sum(size(dense([part])) for part in expected)
    assert gap(dense([(total, 1.0)]), dense(expected)) <= max(1e-6 * scale, 1e-30)


@given(PARTS)
def test_the_sum_has_one_rank_and_its_alpha_is_the_rank(
    parts: list[tuple[LoraAdapter, float]],
) -> None:
    total = weighted_sum(parts)

    ranks = [
        sum(adapter.layers[name].rank for adapter, _ in parts if name in adapter.layers)
        for name in total.layers
    ]
    assert {layer.rank for layer in total.layers.values()} == {max(ranks)}
    assert {layer.alpha for layer in total.layers.values()} == {max(ranks)}
    assert {layer.scale for layer in total.layers.values()} == {1.0}


@given(PARTS)
def test_the_order_of_the_parts_does_not_change_the_delta(
    parts: list[tuple[LoraAdapter, float]],
) -> None:
    forth, back = (dense([(weighted_sum(p), 1.0)]) for p in (parts, parts[::-1]))

    scale = sum(size(dense([part])) for part in parts)
    assert gap(forth, back) <= 1e-6 * scale


@given(adapters(1))
def test_one_part_of_weight_one_is_itself(adapter: LoraAdapter) -> None:
    total = weighted_sum([(adapter, 1.0)])

    assert relative_difference(total, adapter) < 1e-6
    assert total.layers.keys() == adapter.layers.keys()


@given(adapters(1), WEIGHTS)
def test_a_part_and_its_negative_cancel(adapter: LoraAdapter, weight: float) -> None:
    gone = weighted_sum([(adapter, weight), (adapter, -weight)])

    assert norm(gone) <= 1e-6 * (1 + abs(weight) * norm(adapter))


@given(PARTS)
def test_factors_stay_in_balance(parts: list[tuple[LoraAdapter, float]]) -> None:
    for layer in weighted_sum(parts).layers.values():
        assert layer.down.dtype == layer.up.dtype == np.float32
        assert np.isfinite(layer.down).all()
        assert np.isfinite(layer.up).all()


@given(adapters(), adapters())
def test_norms_and_cosines_are_those_of_the_dense_deltas(
    one: LoraAdapter, other: LoraAdapter
) -> None:
    deltas = dense([(one, 1.0)]), dense([(other, 1.0)])
    sizes = size(deltas[0]), size(deltas[1])
    product = sum(float(np.sum(deltas[0][name] * deltas[1][name])) for name in MODULES)

    assert norm(one) == pytest.approx(sizes[0], rel=1e-6)
    expected = product / (sizes[0] * sizes[1]) if all(sizes) else 0.0
    assert cosine(one, other) == pytest.approx(expected, abs=1e-6)
    assert cosine(one, other) == pytest.approx(cosine(other, one), abs=1e-12)


@given(adapters(1), adapters(1))
def test_the_relative_difference_is_that_of_the_dense_deltas(
    one: LoraAdapter, other: LoraAdapter
) -> None:
    distance = size(dense([(one, 1.0), (other, -1.0)]))

    assert relative_difference(one, other) == pytest.approx(
        distance / size(dense([(other, 1.0)])), rel=1e-5, abs=1e-6
    )
    assert relative_difference(one, one) < 1e-7


def test_a_difference_to_nothing_is_absolute() -> None:
    layer = LoraLayer(np.ones((1, 2), np.float32), np.ones((2, 1), np.float32), 1.0)
    nothing = LoraLayer(np.ones((1, 2), np.float32), np.zeros((2, 1), np.float32), 1.0)

    found = relative_difference(LoraAdapter({"a": layer}), LoraAdapter({"a": nothing}))

    assert found == pytest.approx(2.0)


def test_a_sum_of_nothing_is_refused() -> None:
    for parts in ([], [(LoraAdapter({}), 1.0)]):
        with pytest.raises(LoraregError, match="nothing to add up"):
            weighted_sum(parts)


@pytest.mark.parametrize("other", [((7,), 5), ((6,), 4), ((6, 1, 1), 5)])
def test_modules_of_different_shapes_are_refused(
    make_layer: Callable[..., LoraLayer], other: tuple[tuple[int, ...], int]
) -> None:
    down, out = other
    layers = make_layer(2, 1), make_layer(2, 1, down, out)

    with pytest.raises(LoraregError, match="module a different shapes") as caught:
        weighted_sum([(LoraAdapter({"a": layer}), 1.0) for layer in layers])

    assert "different base models" in caught.value.why


def test_measures_do_not_depend_on_the_order_of_a_set() -> None:
    code = (
        "import numpy as np; from lorareg.weights.adapter import LoraAdapter, LoraLayer\n"
        "from lorareg.weights.algebra import cosine\n"
        "random = np.random.default_rng(0)\n"
        "def make(): return LoraAdapter({f'layer{n}': LoraLayer(\n"
        "    random.standard_normal((2, 9)).astype('f4'),\n"
        "    random.standard_normal((9, 2)).astype('f4'), 1.0) for n in range(60)})\n"
        "print(cosine(make(), make()).hex())"
    )
    found = {
        subprocess.check_output(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}
        )
        for seed in ("0", "1", "2")
    }

    assert len(found) == 1


def test_the_inner_product_takes_the_scales_into_account(
    make_layer: Callable[..., LoraLayer],
) -> None:
    one, other = make_layer(2, 8.0, seed=1), make_layer(3, 1.5, seed=2)

    expected = float(np.sum(one.delta().astype(np.float64) * other.delta()))
    assert algebra.inner(one, other) == pytest.approx(expected, rel=1e-5)
