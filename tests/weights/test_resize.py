from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lorareg.weights.adapter import LoraAdapter, LoraLayer, flat
from lorareg.weights.resize import distance, error, fit, grow, shrink, to_scale

Matrix = NDArray[np.float64]


@st.composite
def layers(draw: st.DrawFn, *, max_rank: int = 6) -> LoraLayer:
    """A linear or convolution layer, sometimes with a rank above its width."""
    rank, out = draw(st.integers(1, max_rank)), draw(st.integers(1, 9))
    shape = draw(st.sampled_from([(7,), (3,), (2, 3, 3), (4, 1, 1)]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    up = (out, rank) if len(shape) == 1 else (out, rank, 1, 1)
    return LoraLayer(
        random.standard_normal((rank, *shape)).astype(np.float32),
        random.standard_normal(up).astype(np.float32),
        draw(st.floats(0.125, 256)),
    )


def fresh_like(layer: LoraLayer, rank: int, alpha: float, seed: int = 0) -> LoraLayer:
    """An untrained layer of the same module."""
    random = np.random.default_rng(seed)
    down = random.uniform(-0.5, 0.5, (rank, *layer.down.shape[1:])).astype(np.float32)
    up = np.zeros((layer.up.shape[0], rank, *layer.up.shape[2:]), np.float32)
    return LoraLayer(down, up, alpha)


def dense(layer: LoraLayer) -> Matrix:
    up, down = flat(layer.up).astype(np.float64), flat(layer.down).astype(np.float64)
    delta: Matrix = layer.alpha / layer.rank * (up @ down)
    return delta


def relative(found: Matrix, expected: Matrix) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@given(layers(), st.floats(1 / 64, 64))
def test_another_scale_keeps_the_delta_and_the_rows_of_down(layer: LoraLayer, scale: float) -> None:
    scaled = to_scale(layer, scale)

    assert scaled.scale == pytest.approx(scale, rel=1e-12)
    assert scaled.rank == layer.rank
    np.testing.assert_array_equal(scaled.down, layer.down)
    assert relative(dense(scaled), dense(layer)) < 1e-6


@given(layers(), st.integers(1, 20), st.floats(0.125, 256))
def test_growing_keeps_the_delta_and_only_adds_to_the_factors(
    layer: LoraLayer, more: int, alpha: float
) -> None:
    rank = layer.rank + more
    rows = fresh_like(layer, more, alpha).down

    grown = grow(layer, rank, rows)

    assert grown.rank == rank
    assert grown.scale == pytest.approx(layer.scale, rel=1e-12)
    np.testing.assert_array_equal(grown.down[: layer.rank], layer.down)
    np.testing.assert_array_equal(grown.down[layer.rank :], rows)
    np.testing.assert_array_equal(grown.up[:, : layer.rank], layer.up)
    assert not grown.up[:, layer.rank :].any()
    assert relative(dense(grown), dense(layer)) < 1e-12


def test_rows_that_do_not_fill_the_new_rank_are_refused() -> None:
    layer = LoraLayer(np.ones((2, 5), np.float32), np.ones((4, 2), np.float32), 2.0)

    with pytest.raises(ValueError, match="rank 2 and 3 new rows are not rank 8"):
        grow(layer, 8, np.ones((3, 5), np.float32))


@given(layers(), st.data())
def test_shrinking_is_the_truncated_svd_of_the_dense_delta(
    layer: LoraLayer, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(1, layer.rank))
    u, values, v = np.linalg.svd(dense(layer), full_matrices=False)

    smaller, lost = shrink(layer, rank)

    nearest = (u[:, :rank] * values[:rank]) @ v[:rank]
    gap = np.linalg.norm(dense(layer) - dense(smaller))
    assert smaller.rank <= rank
    assert smaller.scale == pytest.approx(layer.scale, rel=1e-12)
    # as near as anything of that rank can be; the matrix itself is only unique without ties
    assert gap <= np.linalg.norm(dense(layer) - nearest) + 1e-6 * values[0]
    assert lost == pytest.approx(float(np.sum(values[rank:] ** 2)), rel=1e-6, abs=1e-12 * values[0])


@given(layers(), st.data())
def test_rows_stay_as_long_as_they_were_when_a_rank_falls(
    layer: LoraLayer, data: st.DataObject
) -> None:
    smaller, _ = shrink(layer, data.draw(st.integers(1, layer.rank)))

    lengths = np.linalg.norm(flat(smaller.down), axis=1)
    before = np.sqrt(np.mean(np.linalg.norm(flat(layer.down), axis=1) ** 2))
    np.testing.assert_allclose(lengths, before, rtol=1e-5)


@given(layers(), st.integers(1, 8), st.floats(0.125, 256))
def test_growing_and_shrinking_back_changes_nothing(
    layer: LoraLayer, more: int, alpha: float
) -> None:
    rank = layer.rank + more
    rows = fresh_like(layer, more, alpha).down

    back, lost = shrink(grow(layer, rank, rows), layer.rank)

    assert lost < 1e-12 * np.linalg.norm(dense(layer)) ** 2
    assert relative(dense(back), dense(layer)) < 1e-6


@given(layers(), layers())
def test_the_distance_is_that_of_the_dense_deltas(one: LoraLayer, other: LoraLayer) -> None:
    out = min(len(one.up), len(other.up))
    if one.down.shape[1:] != other.down.shape[1:]:
        other = LoraLayer(np.zeros_like(one.down), np.zeros_like(one.up), 1.0)
    pair = [LoraLayer(x.down, x.up[:out], x.alpha) for x in (one, other)]

    expected = np.linalg.norm(dense(pair[0]) - dense(pair[1]))
    assert distance(*pair) == pytest.approx(float(expected), rel=1e-9)
    assert distance(pair[0], pair[0]) < 1e-12 * (1 + np.linalg.norm(dense(pair[0])))


@given(st.lists(layers(), min_size=1, max_size=4), st.data())
def test_an_adapter_takes_the_ranks_and_scales_of_fresh_layers(
    parts: list[LoraLayer], data: st.DataObject
) -> None:
    before = LoraAdapter({f"m{n}": layer for n, layer in enumerate(parts)})
    fresh = LoraAdapter(
        {
            name: fresh_like(layer, data.draw(st.integers(1, 9)), data.draw(st.floats(0.5, 64)))
            for name, layer in before.layers.items()
        }
        | {"only.fresh": fresh_like(parts[0], 3, 3.0)}
    )

    after, lost = fit(before, fresh)

    assert after.layers.keys() == fresh.layers.keys()
    assert after.layers["only.fresh"] is fresh.layers["only.fresh"]
    for name, layer in after.layers.items():
        target = fresh.layers[name]
        assert (layer.down.shape, layer.up.shape, layer.alpha) == (
            target.down.shape, target.up.shape, target.alpha,
        )  # fmt: skip
    gaps = [np.linalg.norm(dense(after.layers[n]) - dense(x)) ** 2
            for n, x in before.layers.items()]  # fmt: skip
    energy = sum(np.linalg.norm(dense(x)) ** 2 for x in before.layers.values())
    found = error(after, before)
    assert found == pytest.approx(float(np.sqrt(sum(gaps) / energy)), rel=1e-6, abs=1e-12)
    assert found**2 == pytest.approx(lost, rel=1e-5, abs=1e-12)
    if all(fresh.layers[name].rank >= x.rank for name, x in before.layers.items()):
        assert lost == 0
        assert found < 1e-6


def test_a_rank_above_the_modules_width_is_filled_with_rows_that_can_learn() -> None:
    random = np.random.default_rng(3)
    wide = LoraLayer(
        random.standard_normal((6, 9)).astype(np.float32),
        random.standard_normal((2, 6)).astype(np.float32),
        6.0,
    )

    before = LoraAdapter({"a": wide})
    after, _ = fit(before, LoraAdapter({"a": fresh_like(wide, 4, 4.0)}))

    layer = after.layers["a"]
    assert error(after, before) < 1e-6
    assert np.linalg.norm(layer.down, axis=1).min() > 0.1


@pytest.mark.parametrize(("down", "up"), [(1, 0), (0, 1), (0, 0)])
def test_an_adapter_that_does_nothing_fits_without_a_division_by_zero(down: int, up: int) -> None:
    nothing = LoraLayer(np.full((4, 5), down, np.float32), np.full((3, 4), up, np.float32), 4.0)

    before = LoraAdapter({"a": nothing})
    after, lost = fit(before, LoraAdapter({"a": fresh_like(nothing, 2, 2.0)}))

    assert (lost, error(after, before)) == (0.0, 0.0)
    assert np.isfinite(after.layers["a"].down).all()
