"""Draws: the same at the same place, whatever was drawn before."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorareg.trainers.core.randomness import Draws

NAMES = st.lists(st.one_of(st.integers(0, 99), st.sampled_from(["a", "b", "1", "22"])), max_size=3)
GOLDEN_KEY = 2603622780084334003
GOLDEN_UNIFORM = 0.9311254212746383
GOLDEN_ORDER = [2, 3, 1, 0, 5, 4]
GOLDEN_NORMAL = [1.4177535772323608, -0.5110260844230652, -1.1201053857803345]


@given(st.integers(0, 2**63 - 1), NAMES, NAMES)
def test_a_draw_depends_on_its_place_and_not_on_how_it_was_reached(
    seed: int, scope: list[str | int], names: list[str | int]
) -> None:
    whole = Draws(seed).uniform(*scope, *names)

    assert Draws(seed).at(*scope).uniform(*names) == whole
    assert 0 <= whole < 1


@given(NAMES, NAMES)
def test_different_places_draw_different_numbers(
    one: list[str | int], other: list[str | int]
) -> None:
    same = [(type(a), a) for a in one] == [(type(b), b) for b in other]

    assert (Draws(1).uniform(*one) == Draws(1).uniform(*other)) is same


def test_other_draws_in_between_change_nothing() -> None:
    draws = Draws(42).at("train", 7)
    alone = draws.normal((4,), "noise", "a.jpg")

    draws.normal((100,), "noise", "b.jpg")
    np.random.default_rng(0).normal(size=9)
    torch.manual_seed(5)

    assert torch.equal(draws.normal((4,), "noise", "a.jpg"), alone)


def test_neighbouring_seeds_steps_and_records_are_uncorrelated() -> None:
    places = [
        Draws(seed).at("train", step).normal((20_000,), "noise", record)
        for seed in (1, 2)
        for step in (0, 1)
        for record in ("01.png", "02.png")
    ]

    correlation = torch.corrcoef(torch.stack(places)) - torch.eye(len(places))

    assert correlation.abs().max() < 0.03


def test_normal_values_have_the_shape_and_the_moments_of_a_standard_normal() -> None:
    values = Draws(3).normal((4, 64, 64), "noise")

    assert values.shape == (4, 64, 64)
    assert values.dtype == torch.float32
    assert values.mean().abs() < 0.03
    assert (values.std() - 1).abs() < 0.03


def test_a_permutation_holds_every_number_once_and_depends_on_the_epoch() -> None:
    first, second = (Draws(3).permutation(50, "order", epoch) for epoch in (0, 1))

    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second


def test_a_key_fits_torch_s_seeds() -> None:
    keys = [Draws(1).key("dropout", number) for number in range(100)]

    assert len(set(keys)) == 100
    assert all(0 <= key < 1 << 63 for key in keys)


def test_the_first_values_are_the_ones_of_all_earlier_versions() -> None:
    """A change of hash or of numpy's generators would break every reproduction."""
    draws = Draws(42).at("train", 7)

    assert draws.key("dropout", 0) == GOLDEN_KEY
    assert draws.uniform("timestep", "img01.jpg") == GOLDEN_UNIFORM
    assert draws.permutation(6, "order", 1) == GOLDEN_ORDER
    assert draws.normal((3,), "noise", "img01.jpg").tolist() == pytest.approx(
        GOLDEN_NORMAL, abs=1e-7
    )


def test_another_process_with_another_hash_seed_draws_the_same() -> None:
    code = (
        "from lorareg.trainers.core.randomness import Draws;print(Draws(9).at('x', 1).uniform('y'))"
    )

    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert outputs == {f"{Draws(9).at('x', 1).uniform('y')}\n"}
