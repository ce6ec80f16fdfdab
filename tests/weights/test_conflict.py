"""Planted sharing is found from factors, at its strength, and nothing else is."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorareg.errors import LoraregError
from lorareg.registry.strength import Strength
from lorareg.weights import algebra, conflict
from lorareg.weights.adapter import LoraAdapter, LoraLayer
from tests.weights.planted import SMALL, attention, sharing


def pair(one: LoraAdapter, other: LoraAdapter) -> conflict.Pair:
    return conflict.examine([one, other], ["a", "b"]).pairs[0]


def dense(adapter: LoraAdapter, module: str) -> np.ndarray:
    return adapter.layers[module].delta().astype(np.float64)


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(1, 6), st.floats(0.1, 2))
def test_every_figure_is_that_of_the_dense_changes(
    seed: int, rank: int, other_rank: int, weight: float
) -> None:
    module = {"unet.mid_block.to_q": (12, 10)}
    one, other = sharing(module, [rank, other_rank], 0.5, seed)
    one = algebra.at(one, Strength(weight))
    a, b = (dense(each, "unet.mid_block.to_q") for each in (one, other))

    found = pair(one, other).whole

    right = np.linalg.svd(b)[2][:other_rank].T
    left = np.linalg.svd(b)[0][:, :other_rank]
    own_right, own_left = np.linalg.svd(a)[2][:rank].T, np.linalg.svd(a)[0][:, :rank]
    size, theirs = np.sum(a**2), np.sum(b**2)
    reads = max(np.sum((a @ right) ** 2) / size, np.sum((b @ own_right) ** 2) / theirs)
    writes = max(np.sum((left.T @ a) ** 2) / size, np.sum((own_left.T @ b) ** 2) / theirs)
    assert found.input.share == pytest.approx(reads, rel=1e-4)
    assert found.output.share == pytest.approx(writes, rel=1e-4)
    assert found.cosine == pytest.approx(np.sum(a * b) / np.sqrt(size * theirs), abs=1e-5)
    together = np.linalg.norm(a + b) / np.sqrt(size + theirs)
    assert found.amplification == pytest.approx(together, rel=1e-5)
    assert found.ratio == pytest.approx(np.linalg.norm(a) / np.linalg.norm(b), rel=1e-5)


def test_what_independent_adapters_have_in_common_is_chance() -> None:
    found = pair(*sharing(SMALL, [4, 8], 0.0))

    assert found.whole.input.times == pytest.approx(1, abs=0.4)
    assert found.whole.output.times == pytest.approx(1, abs=0.4)
    assert abs(found.cosine) < 0.02
    assert not found.has_common_start


def test_overlap_sees_a_sharing_that_the_cosine_hardly_does() -> None:
    found = pair(*sharing(attention(), [16, 32], 0.3))

    assert found.cosine < 0.1
    assert found.whole.output.times > 5
    assert found.whole.output.share > 0.15


@pytest.mark.parametrize("rank", [2, 8])
def test_padding_with_zeros_changes_nothing(rank: int) -> None:
    one, other = sharing(SMALL, [rank, 4], 0.5)
    padded = algebra.weighted_sum([(one, 1.0), (algebra.at(one, Strength(0.0)), 1.0)])

    assert pair(padded, other).whole.output.share == pytest.approx(
        pair(one, other).whole.output.share, rel=1e-4
    )
    assert pair(padded, other).whole.output.chance == pytest.approx(
        pair(one, other).whole.output.chance, rel=1e-4
    )


def test_factors_that_began_as_the_same_random_numbers_are_recognised() -> None:
    one, other = sharing(SMALL, [8, 8], 0.0)
    start = {
        name: replace(layer, down=layer.down + one.layers[name].down)
        for name, layer in other.layers.items()
    }

    found = pair(one, LoraAdapter(start))

    assert found.has_common_start
    assert found.whole.input.times > 3
    assert found.whole.output.times < 1.5


def test_two_times_the_same_adapter_amplify_by_the_root_of_two() -> None:
    (one,) = sharing(SMALL, [4], 0.0)

    found = conflict.examine([one, one], ["a", "b"])

    assert found.amplification == pytest.approx(2**0.5, rel=1e-5)
    assert found.pairs[0].cosine == pytest.approx(1, rel=1e-5)
    assert found.pairs[0].whole.output.share == pytest.approx(1, rel=1e-4)


def test_coverage_is_modules_of_both_over_modules_of_either() -> None:
    one, other = sharing(SMALL, [4, 4], 0.0)
    few = LoraAdapter({n: x for n, x in one.layers.items() if "mid_block" in n or "up" in n})

    found = conflict.examine([few, other], ["a", "b"])

    assert found.pairs[0].coverage == pytest.approx(6 / 9)
    assert set(found.pairs[0].blocks) == {"mid", "up.1"}
    assert found.blocks == ("down.1", "mid", "up.1")


def test_an_adapter_at_weight_zero_overlaps_nothing() -> None:
    one, other = sharing(SMALL, [4, 4], 0.5)

    found = pair(algebra.at(one, Strength(0.0)), other)

    assert found.whole.output.share == 0
    assert found.whole.ratio == 0
    assert found.cosine == 0


def test_adapters_of_different_modules_do_not_meet() -> None:
    one, other = sharing(SMALL, [4, 4], 0.5)
    half = sorted(SMALL)[:4]
    first = LoraAdapter({n: x for n, x in one.layers.items() if n in half})
    second = LoraAdapter({n: x for n, x in other.layers.items() if n not in half})

    found = pair(first, second)

    assert found.coverage == 0
    assert found.whole.output.share == 0
    assert found.blocks == {}


def test_a_dora_in_company_is_refused() -> None:
    one, other = sharing({"unet.mid_block.to_q": (12, 10)}, [2, 2], 0.0)
    layer: LoraLayer = next(iter(one.layers.values()))
    dora = LoraAdapter({"unet.mid_block.to_q": replace(layer, magnitude=np.ones(12, np.float32))})

    with pytest.raises(LoraregError, match="DoRA"):
        conflict.examine([dora, other], ["a", "b"])


def test_a_pair_of_192_modules_takes_less_than_a_second() -> None:
    parts = sharing(attention(with_ff=True), [16, 32], 0.3)
    start = time.process_time()

    conflict.examine(parts, ["a", "b"])

    assert time.process_time() - start < 1.0
