from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorareg.errors import LoraregError
from lorareg.registry.strength import Strength
from lorareg.weights.adapter import LoraAdapter, LoraLayer, flat
from lorareg.weights.algebra import at
from lorareg.weights.lowrank import Budget, compress
from tests.weights.drawn import PARTS, Part, adapters, dense, gap, size, squares, strengthened

TRUNCATE = st.sampled_from(["optimal", "fair"])
TINY = 1e-30  # float32 holds nothing much smaller
FULL = 20  # four parts of rank 5
Truncate = Literal["optimal", "fair"]


def sizes(parts: list[Part]) -> float:
    """What rounding is measured against: parts may cancel each other."""
    return sum(size(dense([part])) for part in parts)


@given(PARTS, TRUNCATE)
def test_at_the_sum_of_the_ranks_nothing_is_lost(parts: list[Part], truncate: Truncate) -> None:
    found = compress(strengthened(parts), Budget(rank=FULL, truncate=truncate))

    assert gap(dense([(found.adapter, 1.0)]), dense(parts)) <= max(2e-6 * sizes(parts), TINY)
    assert found.error * size(dense(parts)) <= 2e-7 * sizes(parts)


@given(PARTS, st.integers(1, 6))
def test_the_error_is_the_least_that_any_adapter_of_that_rank_has(
    parts: list[Part], rank: int
) -> None:
    found = compress(strengthened(parts), Budget(rank=rank))

    bound = float(np.sqrt(sum(sum(values[rank:]) for values in squares(parts).values())))
    lost = gap(dense([(found.adapter, 1.0)]), dense(parts))
    assert lost == pytest.approx(bound, rel=1e-6, abs=max(2e-6 * sizes(parts), TINY))


BUDGETS = st.one_of(
    st.builds(lambda rank: {"rank": rank}, st.integers(1, 6)),
    st.builds(lambda energy: {"energy": energy}, st.floats(0.01, 1)),
    st.builds(lambda size: {"max_size": size}, st.integers(6200, 9000)),
)


@given(PARTS, BUDGETS, TRUNCATE)
def test_the_error_known_before_writing_is_the_one_measured_after(
    parts: list[Part], budget: dict[str, float], truncate: Truncate
) -> None:
    found = compress(strengthened(parts), Budget(**budget, truncate=truncate))  # type: ignore[arg-type]

    whole, rounding = size(dense(parts)), 2e-6 * sizes(parts)
    lost = gap(dense([(found.adapter, 1.0)]), dense(parts))
    assert found.error * whole == pytest.approx(lost, rel=1e-5, abs=max(rounding, TINY))
    assert found.energy == pytest.approx(1 - found.error**2)
    after, before = dense([(found.adapter, 1.0)]), dense(parts)
    for name in found.ranks:
        alone = float(np.linalg.norm(before[name]))
        if alone > 1e3 * rounding:
            assert np.linalg.norm(after[name] - before[name]) <= (
                found.worst[1] * alone * (1 + 1e-5) + rounding
            )


@given(PARTS)
def test_both_factors_of_a_component_are_of_one_length(parts: list[Part]) -> None:
    for layer in compress(strengthened(parts), Budget(rank=3)).adapter.layers.values():
        ups, downs = (
            np.linalg.norm(flat(layer.up), axis=0),
            np.linalg.norm(flat(layer.down), axis=1),
        )
        longest = max(TINY, float(ups.max(initial=0)))
        np.testing.assert_allclose(ups, downs, rtol=1e-3, atol=1e-3 * longest)


def wide(seed: int, rank: int, strength: float, shape: tuple[int, int] = (40, 50)) -> LoraAdapter:
    """An adapter of one module that is much wider than its rank."""
    random = np.random.default_rng(seed)
    spectrum = 1 / np.arange(1, rank + 1)
    return LoraAdapter(
        {
            "mid.to_q": LoraLayer(
                random.standard_normal((rank, shape[1])).astype(np.float32),
                (random.standard_normal((shape[0], rank)) * spectrum).astype(np.float32),
                strength * rank,
            )
        }
    )


@pytest.mark.parametrize("rank", [2, 4, 8])
def test_fair_keeps_more_of_the_weakest_and_loses_more_of_the_sum(rank: int) -> None:
    parts = [wide(1, 4, 1.0), wide(2, 8, 4.0), wide(3, 3, 0.5)]

    optimal, fair = (
        compress(parts, Budget(rank=rank, truncate=how)) for how in ("optimal", "fair")
    )

    assert min(fair.retention) > min(optimal.retention) + 0.05
    assert fair.error > optimal.error


@pytest.mark.parametrize("truncate", ["optimal", "fair"])
def test_retention_is_the_share_of_a_part_within_the_kept_directions(truncate: Truncate) -> None:
    parts = [wide(1, 4, 1.0), wide(2, 6, 2.0), wide(3, 3, 0.5)]

    found = compress(parts, Budget(rank=5, truncate=truncate))

    layer = found.adapter.layers["mid.to_q"]
    u, _ = np.linalg.qr(flat(layer.up).astype(np.float64))
    v, _ = np.linalg.qr(flat(layer.down).T.astype(np.float64))
    for part, kept in zip(parts, found.retention, strict=True):
        delta = part.layers["mid.to_q"].delta().astype(np.float64)
        inside = np.sum((u.T @ delta @ v) ** 2) / np.sum(delta**2)
        assert kept == pytest.approx(inside, rel=1e-5)


def test_a_part_alone_keeps_what_its_own_svd_keeps() -> None:
    part = wide(5, 8, 3.0)

    found = compress([part], Budget(rank=3))

    values = np.linalg.svd(part.layers["mid.to_q"].delta(), compute_uv=False).astype(float) ** 2
    assert found.retention == (pytest.approx(sum(values[:3]) / sum(values), rel=1e-5),)


@settings(max_examples=15)
@given(PARTS, BUDGETS, TRUNCATE)
def test_the_number_of_workers_changes_no_bit(
    parts: list[Part], budget: dict[str, float], truncate: Truncate
) -> None:
    wanted = Budget(**budget, truncate=truncate)  # type: ignore[arg-type]
    one, three = (compress(strengthened(parts), wanted, workers) for workers in (1, 3))

    assert one.adapter.layers.keys() == three.adapter.layers.keys()
    for name, layer in one.adapter.layers.items():
        assert layer.up.tobytes() == three.adapter.layers[name].up.tobytes()
        assert layer.down.tobytes() == three.adapter.layers[name].down.tobytes()
    assert (one.error, one.retention, one.worst) == (three.error, three.retention, three.worst)


@given(adapters(1), TRUNCATE)
def test_equal_parts_need_no_more_rank_than_one(adapter: LoraAdapter, truncate: Truncate) -> None:
    found = compress([adapter, adapter], Budget(rank=5, truncate=truncate))

    twice = dense([(adapter, 2.0)])
    assert gap(dense([(found.adapter, 1.0)]), twice) <= 2e-6 * size(twice)
    assert found.retention == (pytest.approx(1.0), pytest.approx(1.0))
    assert all(found.ranks[name] <= layer.rank for name, layer in adapter.layers.items())


@pytest.mark.parametrize("truncate", ["optimal", "fair"])
def test_quiet_directions_are_no_rounding(truncate: Truncate) -> None:
    random = np.random.default_rng(4)
    up = random.standard_normal((40, 6)) * 10.0 ** -np.arange(6)
    layer = LoraLayer(
        random.standard_normal((6, 50)).astype(np.float32), up.astype(np.float32), 6.0
    )

    found = compress([LoraAdapter({"a": layer})], Budget(rank=6, truncate=truncate))

    assert found.ranks == {"a": 6}
    delta, after = (x.delta().astype(np.float64) for x in (layer, found.adapter.layers["a"]))
    assert np.linalg.norm(after - delta) <= 1e-6 * np.linalg.norm(delta)


@pytest.mark.parametrize("weight", [0.0, 1e-200, 1e-9])
@pytest.mark.parametrize("truncate", ["optimal", "fair"])
def test_a_part_that_is_nothing_beside_the_others_takes_nothing_from_them(
    truncate: Truncate, weight: float
) -> None:
    loud, quiet = wide(1, 4, 1.0), at(wide(2, 6, 1.0), Strength(weight))

    found = compress([loud, quiet], Budget(rank=4, truncate=truncate))

    assert found.error < 1e-6
    assert found.retention[0] == pytest.approx(1.0)


@given(adapters(1), TRUNCATE)
def test_parts_that_cancel_leave_a_delta_of_rounding(
    adapter: LoraAdapter, truncate: Truncate
) -> None:
    found = compress([adapter, at(adapter, Strength(-1.0))], Budget(rank=3, truncate=truncate))

    assert size(dense([(found.adapter, 1.0)])) <= 1e-6 * size(dense([(adapter, 1.0)]))
    assert np.isfinite(found.error)


@pytest.mark.parametrize("budget", [{"rank": 2}, {"energy": 0.9}, {"max_size": 20000}])
@pytest.mark.parametrize("truncate", ["optimal", "fair"])
def test_parts_that_do_nothing_compress_to_nothing(
    budget: dict[str, float], truncate: Truncate
) -> None:
    nothing = LoraLayer(np.zeros((4, 9), np.float32), np.ones((8, 4), np.float32), 4.0)

    found = compress([LoraAdapter({"a": nothing})], Budget(**budget, truncate=truncate))  # type: ignore[arg-type]

    assert not found.adapter.layers["a"].delta().any()
    assert (found.error, found.retention) == (0.0, (1.0,))


def test_a_dora_and_parts_of_other_bases_are_refused(make_layer: Callable[..., LoraLayer]) -> None:
    layer = make_layer(2, 1.0)
    dora = LoraAdapter({"a": LoraLayer(layer.down, layer.up, 1.0, np.ones(5, np.float32))})
    other = LoraAdapter({"a": make_layer(2, 1.0, (9,))})

    with pytest.raises(LoraregError, match="DoRA"):
        compress([dora], Budget(rank=1))
    with pytest.raises(LoraregError, match="module a different shapes"):
        compress([LoraAdapter({"a": layer}), other], Budget(rank=1))
    with pytest.raises(LoraregError, match="nothing to add up"):
        compress([LoraAdapter({})], Budget(rank=1))
