"""The optimizer, the schedule as a function of the step, and a state that survives a file."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingLR

from lorareg.registry.training import Training
from lorareg.trainers.optim import learning_rate, optimizer, restore_state, state_tensors

SCHEDULERS = ("constant", "linear", "cosine")


def settings(scheduler: str, warmup: int = 0) -> Training:
    return Training(learning_rate=2e-4, scheduler=scheduler, warmup_steps=warmup)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_without_warm_up_the_first_step_has_the_full_rate(scheduler: str) -> None:
    assert learning_rate(settings(scheduler), 0, 100) == 2e-4


def test_warm_up_climbs_in_equal_steps_and_reaches_the_full_rate() -> None:
    rates = [learning_rate(settings("cosine", warmup=4), step, 100) for step in range(5)]

    assert rates == pytest.approx([0.5e-4, 1e-4, 1.5e-4, 2e-4, 2e-4])


def test_the_last_step_still_learns() -> None:
    rates = {name: learning_rate(settings(name), 99, 100) for name in SCHEDULERS}

    assert rates["constant"] == 2e-4
    assert rates["linear"] == pytest.approx(2e-6)
    assert 0 < rates["cosine"] < 1e-7


def test_the_cosine_is_torch_s() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    reference = torch.optim.AdamW([parameter], lr=2e-4)
    schedule = CosineAnnealingLR(reference, T_max=50)
    expected = []
    for _ in range(50):
        expected.append(schedule.get_last_lr()[0])
        reference.step()
        schedule.step()

    rates = [learning_rate(settings("cosine"), step, 50) for step in range(50)]

    assert rates == pytest.approx(expected, rel=1e-9)


@given(st.sampled_from(SCHEDULERS), st.integers(0, 60), st.integers(1, 50), st.integers(0, 49))
def test_a_rate_is_never_negative_and_never_above_the_peak(
    scheduler: str, warmup: int, total: int, step: int
) -> None:
    rate = learning_rate(settings(scheduler, warmup), min(step, total - 1), total)

    assert math.isfinite(rate)
    assert 0 <= rate <= 2e-4 * (1 + 1e-12)


def parameters() -> dict[str, torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    return {
        "b.down": torch.nn.Parameter(torch.randn(3, 4, generator=generator)),
        "a.up": torch.nn.Parameter(torch.randn(4, 3, generator=generator)),
    }


def advance(found: dict[str, torch.nn.Parameter], adamw: torch.optim.AdamW, steps: range) -> None:
    for step in steps:
        adamw.zero_grad()
        (found["a.up"] @ found["b.down"]).square().sum().mul(step + 1).backward()  # type: ignore[no-untyped-call]
        adamw.step()


def test_adamw_is_torch_s_own() -> None:
    ours, theirs = parameters(), parameters()
    training = Training(learning_rate=1e-2, weight_decay=0.05)

    advance(ours, optimizer(ours.values(), training), range(5))
    advance(theirs, torch.optim.AdamW(theirs.values(), lr=1e-2, weight_decay=0.05), range(5))

    for name, parameter in ours.items():
        torch.testing.assert_close(parameter, theirs[name])


def test_a_restored_state_goes_on_bit_for_bit() -> None:
    straight, stopped = parameters(), parameters()
    training = Training(learning_rate=1e-2)
    adamw = optimizer(straight.values(), training)
    advance(straight, adamw, range(6))

    first = optimizer(stopped.values(), training)
    advance(stopped, first, range(3))
    saved = {name: value.clone() for name, value in state_tensors(first, stopped).items()}
    second = optimizer(stopped.values(), training)
    restore_state(second, stopped, saved)
    advance(stopped, second, range(3, 6))

    for name, parameter in straight.items():
        assert torch.equal(parameter, stopped[name])
    expected, found = state_tensors(adamw, straight), state_tensors(second, stopped)
    assert expected.keys() == found.keys()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_a_state_is_named_by_parameter_and_field() -> None:
    found = parameters()
    adamw = optimizer(found.values(), Training())
    assert state_tensors(adamw, found) == {}

    advance(found, adamw, range(2))

    state = state_tensors(adamw, found)
    assert set(state) == {
        f"{name}/{field}" for name in found for field in ("step", "exp_avg", "exp_avg_sq")
    }
    assert float(state["a.up/step"]) == 2


def test_a_restored_state_is_a_copy_of_what_it_was_restored_from() -> None:
    found = parameters()
    adamw = optimizer(found.values(), Training())
    advance(found, adamw, range(1))
    saved = {name: value.clone() for name, value in state_tensors(adamw, found).items()}
    before = {name: value.clone() for name, value in saved.items()}

    restore_state(adamw, found, saved)
    advance(found, adamw, range(1, 3))

    assert all(torch.equal(saved[name], value) for name, value in before.items())
