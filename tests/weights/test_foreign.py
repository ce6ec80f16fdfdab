"""LoHa, LoKr and Tucker factors against the definitions of LyCORIS, written out densely."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lorareg.weights import foreign
from lorareg.weights.adapter import Array, LoraLayer, flat

Matrix = NDArray[np.float64]
SIZES = st.integers(1, 6)
ALPHAS = st.one_of(st.none(), st.floats(0.125, 64))
KERNELS = st.sampled_from([(1, 1), (3, 3), (1, 3)])


class Random:
    """Random float32 arrays of the shapes asked for."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def __call__(self, *shape: int) -> Array:
        return self._random.standard_normal(shape, dtype=np.float32)


RANDOM = st.builds(Random, st.integers(0, 2**32))


def same(layer: LoraLayer, expected: Matrix) -> bool:
    """Whether the delta is the expected weight, (out, in) or (out, in, height, width)."""
    delta = layer.scale * (flat(layer.up).astype(np.float64) @ flat(layer.down))
    assert layer.down.shape[1:] == expected.shape[1:]
    assert layer.up.shape[0] == expected.shape[0]
    gap = np.linalg.norm(delta - expected.reshape(len(expected), -1))
    return bool(gap <= 2e-6 * np.linalg.norm(expected))


def scale(alpha: float | None, rank: int) -> float:
    return 1.0 if alpha is None else alpha / rank


def tucker(core: Array, a: Array, b: Array) -> Matrix:
    """A weight (out, in, height, width) from a core (r, r, h, w), (r, out) and (r, in)."""
    return np.asarray(np.einsum("ijhw,ip,jq->pqhw", *(x.astype(np.float64) for x in (core, a, b))))


@given(RANDOM, SIZES, SIZES, st.integers(1, 4), ALPHAS)
def test_a_loha_is_the_product_of_both_halves_entry_by_entry(
    random: Random, out: int, width: int, rank: int, alpha: float | None
) -> None:
    a1, b1, a2, b2 = random(out, rank), random(rank, width), random(out, rank), random(rank, width)

    layer = foreign.loha(a1, b1, a2, b2, alpha)

    halves = (a.astype(np.float64) @ b for a, b in ((a1, b1), (a2, b2)))
    assert same(layer, scale(alpha, rank) * np.multiply(*halves))
    assert layer.rank == min(rank**2, out, width)


@given(RANDOM, SIZES, SIZES, st.integers(1, 3), KERNELS, st.booleans())
def test_a_loha_of_a_convolution_gets_its_kernel(
    random: Random, out: int, width: int, rank: int, kernel: tuple[int, int], is_flat: bool
) -> None:
    height, breadth = kernel
    b1, b2 = (random(rank, width, height, breadth) for _ in range(2))
    a1, a2 = (random(out, rank, 1, 1) for _ in range(2))

    given_b = [x.reshape(rank, -1) if is_flat else x for x in (b1, b2)]
    layer = foreign.loha(a1, given_b[0], a2, given_b[1], 2.0, kernel=kernel if is_flat else None)

    halves = (
        np.einsum("or,rihw->oihw", a[:, :, 0, 0].astype(np.float64), b)
        for a, b in ((a1, b1), (a2, b2))
    )
    assert same(layer, 2.0 / rank * np.multiply(*halves))


@given(RANDOM, SIZES, SIZES, st.integers(1, 3), KERNELS, ALPHAS)
def test_a_loha_with_cores_is_the_product_of_both_tucker_weights(
    random: Random, out: int, width: int, rank: int, kernel: tuple[int, int], alpha: float | None
) -> None:
    a1, a2, b1, b2 = (random(rank, x) for x in (out, out, width, width))
    cores = random(rank, rank, *kernel), random(rank, rank, *kernel)

    layer = foreign.loha(a1, b1, a2, b2, alpha, cores=cores)

    expected = tucker(cores[0], a1, b1) * tucker(cores[1], a2, b2)
    assert same(layer, scale(alpha, rank) * expected)


@given(RANDOM, SIZES, SIZES, st.integers(1, 4), KERNELS, ALPHAS)
def test_a_tucker_core_goes_into_down_and_the_rank_stays(
    random: Random, out: int, width: int, rank: int, kernel: tuple[int, int], alpha: float | None
) -> None:
    down, up, mid = random(rank, width, 1, 1), random(out, rank, 1, 1), random(rank, rank, *kernel)

    layer = foreign.locon(down, up, mid, alpha)

    expected = tucker(mid, up[:, :, 0, 0].T, down[:, :, 0, 0])
    assert same(layer, scale(alpha, rank) * expected)
    assert layer.rank == min(rank, out, width * kernel[0] * kernel[1])


@given(RANDOM, st.tuples(SIZES, SIZES, SIZES, SIZES), st.booleans(), st.booleans(), ALPHAS)
def test_a_lokr_is_the_kronecker_product(
    random: Random,
    sizes: tuple[int, int, int, int],
    first_is_pair: bool,
    second_is_pair: bool,
    alpha: float | None,
) -> None:
    out1, in1, out2, in2 = sizes
    rank = 2
    pair1, pair2 = (random(out1, rank), random(rank, in1)), (random(out2, rank), random(rank, in2))
    whole1, whole2 = random(out1, in1), random(out2, in2)

    layer = foreign.lokr(
        pair1 if first_is_pair else whole1, pair2 if second_is_pair else whole2, alpha
    )

    one = pair1[0].astype(float) @ pair1[1] if first_is_pair else whole1
    two = pair2[0].astype(float) @ pair2[1] if second_is_pair else whole2
    factor = scale(alpha, rank) if first_is_pair or second_is_pair else 1.0
    assert same(layer, factor * np.kron(one, two).astype(np.float64))
    assert layer.rank <= min(out1 * out2, in1 * in2)


@given(
    RANDOM,
    st.tuples(SIZES, SIZES, SIZES, SIZES),
    KERNELS,
    st.sampled_from(["whole", "pair", "core"]),
)
def test_a_lokr_of_a_convolution_keeps_the_kernel_behind_both_inputs(
    random: Random, sizes: tuple[int, int, int, int], kernel: tuple[int, int], form: str
) -> None:
    (out1, in1, out2, in2), (height, width), rank = sizes, kernel, 2
    w1, core = random(out1, in1), random(rank, rank, height, width)
    forms: dict[str, tuple[Array | tuple[Array, Array], Matrix, float]] = {}
    whole = random(out2, in2, height, width)
    forms["whole"] = whole, whole.astype(np.float64), 1.0
    a, b = random(out2, rank), random(rank, in2, height, width)
    forms["pair"] = (a, b), np.einsum("or,rihw->oihw", a.astype(np.float64), b), 3.0 / rank
    a, b = random(rank, out2), random(rank, in2)
    forms["core"] = (a, b), tucker(core, a, b), 3.0 / rank
    w2, second, factor = forms[form]

    layer = foreign.lokr(w1, w2, 3.0, core=core if form == "core" else None)

    expected = np.kron(w1[:, :, None, None].astype(np.float64), second)
    assert same(layer, factor * expected)


def test_a_flat_pair_of_a_convolution_gets_the_kernel_it_is_told() -> None:
    random = Random(1)
    w1, a, b = random(2, 3), random(4, 2), random(2, 5, 3, 3)

    layer = foreign.lokr(w1, (a, b.reshape(2, -1)), 2.0, kernel=(3, 3))

    second = np.einsum("or,rihw->oihw", a.astype(np.float64), b)
    assert same(layer, np.kron(w1[:, :, None, None].astype(np.float64), second))


def test_a_whole_matrix_counts_with_its_rank_and_not_its_width() -> None:
    random = Random(2)
    thin = (random(8, 2) @ random(2, 9)).astype(np.float32)

    assert foreign.lokr(thin, random(5, 5)[:, :3], None).rank == 2 * 3


def test_a_zero_lokr_is_a_zero_delta() -> None:
    layer = foreign.lokr(np.zeros((2, 2), np.float32), np.zeros((3, 3), np.float32), 1.0)

    assert not layer.delta().any()


def test_factors_that_do_not_fit_are_said_to_be_so() -> None:
    random = Random(3)

    with pytest.raises(ValueError, match="do not fit"):
        foreign.loha(random(4, 2), random(3, 5), random(4, 2), random(2, 5), 1.0)
    with pytest.raises(ValueError, match="do not fit"):
        foreign.loha(random(4, 2), random(2, 5), random(3, 2), random(2, 5), 1.0)
    with pytest.raises(ValueError, match="do not fit"):
        foreign.loha(random(4, 2), random(2, 5), random(4, 2), random(2, 5), 1.0, kernel=(3, 3))
