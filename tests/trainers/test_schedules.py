"""The learning rate as a function of the step, against the libraries that have such schedules."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
import torch
from diffusers.optimization import get_scheduler
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingLR
from transformers import get_polynomial_decay_schedule_with_warmup

from lorareg.registry.training import Training
from lorareg.trainers.core.schedules import learning_rate

PEAK, TOTAL = 2e-4, 60
SCHEDULERS = get_args(Training.model_fields["scheduler"].annotation)
REFERENCES: dict[str, tuple[str, dict[str, Any]]] = {
    "constant": ("constant_with_warmup", {}),
    "linear": ("linear", {}),
    "cosine": ("cosine", {}),
    "cosine-restarts": ("cosine_with_restarts", {"num_cycles": 3}),
}
KEYS: dict[str, dict[str, Any]] = {"cosine-restarts": {"scheduler_cycles": 3}}


def settings(scheduler: str, warmup: int = 0, **more: Any) -> Training:
    return Training(learning_rate=PEAK, scheduler=scheduler, warmup_steps=warmup, **more)


def rates(training: Training, total: int = TOTAL) -> list[float]:
    return [learning_rate(training, step, total) for step in range(total)]


def played(schedule: Any, optimizer: torch.optim.Optimizer) -> list[float]:
    found = []
    for _ in range(TOTAL):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


def adamw() -> torch.optim.AdamW:
    return torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_without_warm_up_the_first_step_has_the_full_rate(scheduler: str) -> None:
    assert learning_rate(settings(scheduler), 0, 100) == pytest.approx(PEAK, rel=1e-12)


def test_warm_up_climbs_in_equal_steps_and_reaches_the_full_rate() -> None:
    found = [learning_rate(settings("cosine", warmup=4), step, 100) for step in range(5)]

    assert found == pytest.approx([0.5e-4, 1e-4, 1.5e-4, 2e-4, 2e-4])


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_last_step_still_learns_and_all_but_a_constant_rate_have_fallen(scheduler: str) -> None:
    last = learning_rate(settings(scheduler), 99, 100)

    assert last == PEAK if scheduler == "constant" else 0 < last < 0.05 * PEAK


@pytest.mark.parametrize("warmup", [0, 7])
@pytest.mark.parametrize("scheduler", REFERENCES)
def test_after_warm_up_the_rates_are_those_of_diffusers(scheduler: str, warmup: int) -> None:
    name, more = REFERENCES[scheduler]
    reference = adamw()
    schedule = get_scheduler(name, reference, None, warmup, TOTAL, **more)

    expected = played(schedule, reference)

    found = rates(settings(scheduler, warmup, **KEYS.get(scheduler, {})))
    assert found[warmup:] == pytest.approx(expected[warmup:], rel=1e-9)


def test_the_polynomial_is_that_of_transformers_down_to_zero() -> None:
    reference = adamw()
    schedule = get_polynomial_decay_schedule_with_warmup(reference, 5, TOTAL, 0.0, 2.5)

    expected = played(schedule, reference)

    found = rates(settings("polynomial", 5, scheduler_power=2.5))
    assert found[5:] == pytest.approx(expected[5:], rel=1e-9)


def test_the_cosine_is_torch_s() -> None:
    reference = adamw()

    expected = played(CosineAnnealingLR(reference, T_max=TOTAL), reference)

    assert rates(settings("cosine")) == pytest.approx(expected, rel=1e-9)


def test_rex_falls_as_its_paper_says() -> None:
    """Arithmetic on equation 2: halfway (1/2) / (1/2 + 1/4), at nine tenths (1/10) / (11/20)."""
    found = rates(settings("rex"), total=10)

    assert found[5] == pytest.approx(PEAK * 2 / 3)
    assert found[9] == pytest.approx(PEAK * 2 / 11)
    assert all(rex > linear for rex, linear in zip(found[1:], rates(settings("linear"), 10)[1:],
                                                   strict=True))  # fmt: skip


def test_each_restart_begins_at_the_full_rate() -> None:
    found = rates(settings("cosine-restarts", scheduler_cycles=3))

    assert [step for step, rate in enumerate(found) if rate == PEAK] == [0, 20, 40]


@given(
    st.sampled_from(SCHEDULERS),
    st.integers(0, 60),
    st.integers(1, 50),
    st.integers(0, 49),
    st.integers(1, 5),
    st.floats(0.1, 10),
)
def test_a_rate_is_never_negative_and_never_above_the_peak(
    scheduler: str, warmup: int, total: int, step: int, cycles: int, power: float
) -> None:
    training = settings(scheduler, warmup).model_copy(
        update={"scheduler_cycles": cycles, "scheduler_power": power}
    )

    rate = learning_rate(training, min(step, total - 1), total)

    assert math.isfinite(rate)
    assert 0 <= rate <= PEAK * (1 + 1e-12)
