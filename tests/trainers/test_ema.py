"""The moving average of an adapter: diffusers' own, out of the way, and resumed to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from lorareg.registry import tensors
from lorareg.trainers.core.ema import Average
from lorareg.trainers.tensor_bytes import raw_tensor

Parameters = dict[str, torch.nn.Parameter]
STEPS = 40


def parameters() -> Parameters:
    generator = torch.Generator().manual_seed(1)
    return {
        "a.down": torch.nn.Parameter(torch.randn(3, 4, generator=generator)),
        "a.up": torch.nn.Parameter(torch.zeros(4, 3)),
    }


def move(found: Parameters, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for value in found.values():
            value.add_(torch.randn(value.shape, generator=generator))


def values(found: Parameters) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in found.items()}


def averaged(found: Parameters, average: Average) -> dict[str, torch.Tensor]:
    with average.applied():
        return values(found)


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_the_average_is_that_of_diffusers(decay: float) -> None:
    from diffusers.training_utils import EMAModel

    found = parameters()
    average, reference = Average(found, decay), EMAModel(found.values(), decay=decay)

    for step in range(STEPS):
        move(found, step)
        average.update()
        reference.step(found.values())

    seen = averaged(found, average)
    for value, expected in zip(seen.values(), reference.shadow_params, strict=True):
        torch.testing.assert_close(value, expected)


def test_the_first_update_takes_the_weights_as_they_are() -> None:
    found = parameters()
    average = Average(found, 0.999)
    move(found, 0)

    average.update()

    seen = averaged(found, average)
    assert all(torch.equal(seen[name], value) for name, value in found.items())


def test_weights_that_stand_still_are_their_own_average() -> None:
    found = parameters()
    average = Average(found, 0.9)

    for _ in range(STEPS):
        average.update()

    seen = averaged(found, average)
    assert all(torch.equal(seen[name], value) for name, value in found.items())


def test_the_weights_are_back_after_the_average_was_looked_at_even_after_an_error() -> None:
    found = parameters()
    average = Average(found, 0.9)
    for step in range(3):
        move(found, step)
        average.update()
    before, objects = values(found), list(map(id, found.values()))

    def look() -> None:
        with average.applied():
            assert not torch.equal(found["a.up"], before["a.up"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        look()

    assert all(torch.equal(found[name], value) for name, value in before.items())
    assert list(map(id, found.values())) == objects, "an optimizer holds these objects"


@settings(max_examples=10, derandomize=True, deadline=None)
@given(cut=st.integers(0, STEPS), decay=st.sampled_from([0.3, 0.95, 0.9999]))
def test_an_average_restored_anywhere_goes_on_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, cut: int, decay: float
) -> None:
    straight = parameters()
    whole = Average(straight, decay)
    for step in range(STEPS):
        move(straight, step)
        whole.update()

    found = parameters()
    average = Average(found, decay)
    for step in range(cut):
        move(found, step)
        average.update()
    path: Path = tmp_path_factory.mktemp("average") / "state.safetensors"
    tensors.write(path, {name: raw_tensor(x) for name, x in average.state().items()}, {})
    found = {name: torch.nn.Parameter(value.detach().clone()) for name, value in found.items()}
    average = Average(found, decay)
    average.restore(load_file(path))
    for step in range(cut, STEPS):
        move(found, step)
        average.update()

    expected, state = whole.state(), average.state()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], value) for name, value in expected.items())
