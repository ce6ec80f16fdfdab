from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorareg.errors import LoraregError
from lorareg.registry.recipe import Method
from lorareg.weights.adapter import LoraAdapter, LoraLayer
from lorareg.weights.algebra import weighted_sum
from lorareg.weights.merging import dare
from lorareg.weights.merging.methods import merge
from tests.weights.drawn import dense, gap, size
from tests.weights.merging import references
from tests.weights.merging.references import ADAPTERS, PARTS, by_module, total

METHODS = ["sum", "ties", "tsv", "dare"]


def names(parts: list[LoraAdapter]) -> list[str]:
    return [f"style/part{number}" for number in range(len(parts))]


def merged(parts: list[LoraAdapter], **method: object) -> LoraAdapter:
    return merge(parts, names(parts), Method.model_validate(method))


@given(PARTS, st.sampled_from([0.1, 0.3, 0.7, 1.0]))
def test_ties_within_the_factors_is_the_dense_procedure(
    parts: list[LoraAdapter], keep: float
) -> None:
    found = merged(parts, name="ties", keep=keep)

    expected = by_module(parts, lambda found: references.knots_ties(found, keep))
    assert gap(dense([(found, 1.0)]), expected) <= 2e-6 * total(parts)
    assert found.rank <= weighted_sum([(part, 1.0) for part in parts]).rank


@given(PARTS)
def test_tsv_within_the_factors_is_the_dense_procedure(parts: list[LoraAdapter]) -> None:
    found = merged(parts, name="tsv")

    expected = by_module(parts, references.tsv)
    assert gap(dense([(found, 1.0)]), expected) <= 2e-6 * total(parts)


@given(ADAPTERS, ADAPTERS, st.sampled_from([0.0, 0.5, 3.0, 1000.0]), st.booleans())
def test_np_softens_the_part_that_is_not_protected(
    first: LoraAdapter, second: LoraAdapter, mu: float, is_first: bool
) -> None:
    parts = [first, second]
    protected, injected = parts if is_first else parts[::-1]

    found = merged(parts, name="np", protect=names(parts)[not is_first], mu=mu)

    expected = dense([(protected, 1.0), (injected, 1.0)])
    for name in protected.layers.keys() & injected.layers.keys():
        one, other = (dense([(part, 1.0)])[name] for part in (protected, injected))
        expected[name] = one + references.null_space(one, other, mu)
    assert gap(dense([(found, 1.0)]), expected) <= 2e-6 * total(parts)


@given(PARTS, st.sampled_from([0.2, 0.5, 1.0]), st.integers(0, 1000))
def test_dare_drops_whole_components_of_the_dense_deltas(
    parts: list[LoraAdapter], keep: float, seed: int
) -> None:
    found = merged(parts, name="dare", keep=keep, seed=seed)

    expected = dense([])
    for part, name in zip(parts, names(parts), strict=True):
        for module in part.layers:
            delta = dense([(part, 1.0)])[module]
            chosen = dare.kept(len(references.svd(delta)[1]), keep, f"{seed}/{name}", module)
            expected[module] += references.components(delta, chosen, keep)
    assert gap(dense([(found, 1.0)]), expected) <= 2e-6 * total(parts) / keep


def test_dare_is_right_on_average_over_seeds() -> None:
    random = np.random.default_rng(0)
    layer = LoraLayer(
        random.standard_normal((4, 7)).astype(np.float32),
        random.standard_normal((5, 4)).astype(np.float32),
        4.0,
    )

    deltas = [
        dare.drop(LoraAdapter({"down.to_q": layer}), 0.5, str(seed)).layers["down.to_q"].delta()
        for seed in range(600)
    ]

    # each of 4 components has a standard deviation of its own size: 600 draws leave a 24th
    off = np.linalg.norm(np.mean(deltas, axis=0) - layer.delta()) / np.linalg.norm(layer.delta())
    assert off < 3 / 24
    assert len({delta.tobytes() for delta in deltas}) == 16


@given(PARTS, st.sampled_from(METHODS))
def test_every_method_gives_the_canonical_form(parts: list[LoraAdapter], method: str) -> None:
    found = merged(parts, name=method)

    layers = found.layers.values()
    assert found.layers.keys() == {name for part in parts for name in part.layers}
    assert {(layer.rank, layer.alpha) for layer in layers} == {(found.rank, float(found.rank))}
    assert found.rank <= weighted_sum([(part, 1.0) for part in parts]).rank


@given(PARTS, st.sampled_from(METHODS))
def test_the_same_recipe_gives_the_same_bytes(parts: list[LoraAdapter], method: str) -> None:
    one, other = (merged(parts, name=method, seed=3) for _ in range(2))

    for name, layer in one.layers.items():
        assert layer.up.tobytes() == other.layers[name].up.tobytes()
        assert layer.down.tobytes() == other.layers[name].down.tobytes()


@given(PARTS, st.sampled_from(METHODS))
def test_the_order_of_the_parts_does_not_change_the_merge(
    parts: list[LoraAdapter], method: str
) -> None:
    settings = Method.model_validate({"name": method, "keep": 0.5})

    forth = merge(parts, names(parts), settings)
    back = merge(parts[::-1], names(parts)[::-1], settings)

    assert gap(dense([(forth, 1.0)]), dense([(back, 1.0)])) <= 1e-5 * total(parts)


@given(ADAPTERS)
def test_tsv_of_an_adapter_with_itself_is_that_adapter(adapter: LoraAdapter) -> None:
    narrow = LoraAdapter({n: x for n, x in adapter.layers.items() if x.rank <= 1})

    if narrow.layers:
        found = merged([narrow, narrow], name="tsv")

        alone = dense([(narrow, 1.0)])
        assert gap(dense([(found, 1.0)]), alone) <= 1e-5 * size(alone)


@given(ADAPTERS, st.sampled_from(["sum", "ties", "tsv", "dare"]))
def test_one_part_kept_whole_is_itself(adapter: LoraAdapter, method: str) -> None:
    found = merged([adapter], name=method, keep=1.0)

    alone = dense([(adapter, 1.0)])
    assert gap(dense([(found, 1.0)]), alone) <= 2e-6 * size(alone)


@pytest.mark.parametrize("method", ["sum", "ties", "tsv", "dare"])
def test_a_part_that_does_nothing_changes_nothing_for_the_others(
    make_layer: Callable[..., LoraLayer], method: str
) -> None:
    layer = make_layer(2, 4.0)
    idle = LoraLayer(make_layer(3, 3.0, seed=1).down, np.zeros((5, 3), np.float32), 3.0)
    other = make_layer(1, 2.0, seed=2)

    parts = [LoraAdapter({"a": x}) for x in (layer, other, idle)]
    found, without = merged(parts, name=method, keep=1.0), merged(parts[:2], name=method, keep=1.0)

    found_delta, delta = (x.layers["a"].delta() for x in (found, without))
    np.testing.assert_allclose(found_delta, delta, atol=1e-5)


def test_np_is_for_two_parts_of_which_one_is_protected(
    make_layer: Callable[..., LoraLayer],
) -> None:
    part = LoraAdapter({"a": make_layer(2, 1.0)})
    cases: list[tuple[int, str | None]] = [(1, "style/part0"), (3, "style/part0"), (2, None),
                                           (2, "style/other")]  # fmt: skip
    for count, protect in cases:
        with pytest.raises(LoraregError, match="method np puts two parts together") as caught:
            merged([part] * count, name="np", protect=protect)
        assert "protect: style/part0" in caught.value.fix


@pytest.mark.parametrize("method", [*METHODS, "np"])
def test_a_dora_parts_of_other_bases_and_nothing_are_refused(
    make_layer: Callable[..., LoraLayer], method: str
) -> None:
    layer = make_layer(2, 1.0)
    plain = LoraAdapter({"a": layer})
    dora = LoraAdapter({"a": LoraLayer(layer.down, layer.up, 1.0, np.ones(5, np.float32))})
    other = LoraAdapter({"a": make_layer(2, 1.0, (9,))})
    settings = {"name": method, "protect": "style/part0"}

    for second, said in ((dora, "DoRA"), (other, "module a different shapes")):
        with pytest.raises(LoraregError, match=said):
            merged([plain, second], **settings)
    with pytest.raises(LoraregError, match="nothing to add up"):
        merged([LoraAdapter({}), LoraAdapter({})], **settings)
