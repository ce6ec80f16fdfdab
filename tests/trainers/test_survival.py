"""Survival and attribution from losses: what they come to, and when nothing can be said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorareg.errors import LoraregError
from lorareg.registry.recipe import Schedule
from lorareg.registry.workspace import Workspace
from lorareg.trainers.evaluation.measure import evaluate
from lorareg.trainers.evaluation.survival import MIN_RECORDS, Interval, headline, judge
from lorareg.weights.members import Composition

BASE = np.array([1.0, 0.8, 1.2, 0.9, 1.1, 1.3])
SOLO = np.array([0.4, 0.5, 0.3, 0.4, 0.5, 0.6])


def test_a_composition_that_does_what_the_base_does_keeps_nothing() -> None:
    found = judge("style/ink", {"base": BASE, "solo": SOLO, "composed": BASE})

    assert found.survival == Interval(0.0, 0.0, 0.0)
    assert found.records == 6
    assert found.attribution is None


def test_a_composition_that_does_what_the_adapter_does_keeps_all() -> None:
    found = judge("style/ink", {"base": BASE, "solo": SOLO, "composed": SOLO})

    assert found.survival == Interval(1.0, 1.0, 1.0)


@settings(derandomize=True, max_examples=25, deadline=None)
@given(st.floats(-1.0, 1.5), st.permutations(range(6)))
def test_survival_is_the_share_of_the_gain_in_whatever_order(
    share: float, order: list[int]
) -> None:
    composed = BASE - share * (BASE - SOLO)
    losses = {"base": BASE[order], "solo": SOLO[order], "composed": composed[order]}

    kept = judge("style/ink", losses).survival

    assert kept is not None
    assert [kept.value, kept.low, kept.high] == pytest.approx([share] * 3, abs=1e-9)


def test_the_interval_is_the_same_every_time_and_wider_for_fewer_records() -> None:
    random = np.random.default_rng(3)
    base, solo = 1 + 0.1 * random.normal(size=200), 0.5 + 0.1 * random.normal(size=200)
    composed = solo + 0.2 + 0.1 * random.normal(size=200)
    many = {"base": base, "solo": solo, "composed": composed}
    few = {name: values[:10] for name, values in many.items()}

    first, again, small = (judge("a/b", each).survival for each in (many, many, few))

    assert first == again
    assert first is not None
    assert small is not None
    assert first.low < first.value < first.high
    assert first.low < 0.6 < first.high
    assert small.high - small.low > 2 * (first.high - first.low)


def test_gains_that_may_be_chance_are_unmeasurable() -> None:
    gains = np.array([0.5, -0.4, 0.3, -0.4, 0.2, -0.1])

    found = judge("style/ink", {"base": BASE, "solo": BASE - gains, "composed": SOLO})

    assert found.survival is None
    assert headline([found]) is None


def test_so_few_records_say_nothing_however_large_the_gain() -> None:
    losses = {"base": BASE, "solo": SOLO, "composed": SOLO}
    enough = {name: values[:MIN_RECORDS] for name, values in losses.items()}
    fewer = {name: values[: MIN_RECORDS - 1] for name, values in losses.items()}

    assert judge("a/b", enough).survival is not None
    assert judge("a/b", fewer).survival is None


def test_a_member_that_harms_has_an_attribution_below_zero() -> None:
    losses = {"base": BASE, "solo": SOLO, "composed": BASE, "without": SOLO}

    found = judge("style/ink", losses).attribution

    assert found is not None
    assert found.value == pytest.approx((SOLO - BASE).mean())
    assert found.high < 0


def test_the_headline_is_the_least_and_says_nothing_if_one_member_cannot_be_measured() -> None:
    half = judge("a/half", {"base": BASE, "solo": SOLO, "composed": (BASE + SOLO) / 2})
    whole = judge("a/whole", {"base": BASE, "solo": SOLO, "composed": SOLO})
    idle = judge("a/idle", {"base": BASE, "solo": BASE, "composed": SOLO})

    assert headline([whole, half]) == pytest.approx(0.5)
    assert headline([whole, idle]) is None


def test_a_composition_that_changes_from_step_to_step_is_not_measured(registry: Path) -> None:
    switching = Composition((), (), schedule=Schedule(mode="switch"))

    with pytest.raises(LoraregError, match="changes from step to step is not measured"):
        evaluate(Workspace(registry), switching, lambda what, done, total: None)
