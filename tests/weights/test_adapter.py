from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lorareg.errors import InvalidFileError
from lorareg.registry.tensors import RawTensor
from lorareg.weights.adapter import LoraAdapter, LoraLayer, flat, from_raw, to_raw


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def test_the_delta_is_alpha_over_rank_times_up_times_down() -> None:
    layer = LoraLayer(np.array([[1, 2], [3, 4]], np.float32), np.array([[5, 6]], np.float32), 4.0)

    assert (layer.rank, layer.scale) == (2, 2.0)
    assert layer.delta().tolist() == [[46.0, 68.0]]


def test_the_delta_of_a_convolution_is_flat(make_layer: Callable[..., LoraLayer]) -> None:
    layer = make_layer(2, 4.0, (3, 5, 5), 7)

    assert layer.delta().shape == (7, 75)
    expected = 2 * np.einsum("or,rihw->oihw", layer.up[:, :, 0, 0], layer.down)
    np.testing.assert_allclose(layer.delta(), expected.reshape(7, 75), rtol=1e-5)


@pytest.mark.parametrize(
    ("down", "up"),
    [
        ((2, 3), (4, 3)), ((2,), (4, 2)), ((2, 3), (4,)), ((), ()), ((0, 3), (4, 0)),
        ((2, 0), (4, 2)), ((2, 3, 1, 1), (4, 2)), ((2, 3), (4, 2, 1, 1)),
        ((2, 3, 1, 1), (4, 2, 3, 3)), ((2, 3, 1), (4, 2, 1)),
    ],
)  # fmt: skip
def test_factors_that_make_no_delta_are_no_layer(
    down: tuple[int, ...], up: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="factors|ranks|1x1"):
        LoraLayer(zeros(*down), zeros(*up), 1.0)


@pytest.mark.parametrize("alpha", [float("nan"), float("inf")])
def test_an_alpha_that_is_no_number_makes_no_layer(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        LoraLayer(zeros(2, 3), zeros(4, 2), alpha)


def test_the_rank_of_an_adapter_is_its_highest(make_layer: Callable[..., LoraLayer]) -> None:
    layers = {"a": make_layer(2, 1), "b": make_layer(7, 1)}

    assert LoraAdapter(layers).rank == 7
    assert LoraAdapter({}).rank == 0


def test_values_survive_the_way_to_bytes_and_back() -> None:
    array = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)

    raw = to_raw(array.T)  # not contiguous, so that row-major order is put to the test

    assert (raw.dtype, raw.shape) == ("F32", (4, 3))
    assert np.array_equal(from_raw("a", raw), array.T)


def test_every_floating_point_type_is_read_as_float32() -> None:
    values = np.array([1.5, -2.0, 0.0, 3.0], np.float32)
    upper_halves = (values.view("<u4") >> 16).astype("<u2")
    written = {
        "F32": values.tobytes(),
        "F16": values.astype("<f2").tobytes(),
        "F64": values.astype("<f8").tobytes(),
        "BF16": upper_halves.tobytes(),
    }

    for dtype, data in written.items():
        found = from_raw("a", RawTensor(dtype, (2, 2), data))
        assert found.dtype == np.float32
        assert found.ravel().tolist() == values.tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_a_tensor_with_a_value_that_is_no_number_is_refused(value: float) -> None:
    raw = RawTensor("F64", (1,), np.array([value]).tobytes())

    with pytest.raises(InvalidFileError, match="'unet.x' holds NaN or infinity"):
        from_raw("unet.x", raw)


@pytest.mark.parametrize("dtype", ["I32", "U8", "BOOL", "F8_E4M3"])
def test_a_tensor_that_is_no_floating_point_is_refused(dtype: str) -> None:
    size = 4 if dtype == "I32" else 1

    with pytest.raises(InvalidFileError, match=f"'unet.x' is {dtype}") as caught:
        from_raw("unet.x", RawTensor(dtype, (1,), bytes(size)))

    assert caught.value.fix


def test_an_empty_tensor_is_read() -> None:
    assert from_raw("a", RawTensor("F32", (0, 3), b"")).shape == (0, 3)


def test_flat_joins_all_axes_but_the_first() -> None:
    assert flat(zeros(2, 3, 4, 5)).shape == (2, 60)
