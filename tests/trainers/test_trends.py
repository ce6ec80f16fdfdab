"""What the curves say: overfitting and standstill, each once, and never on a healthy run."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorareg.trainers.core.watching import StepFacts
from lorareg.trainers.report.trends import Trends, overfitting, standstill

RUNS = sorted((Path(__file__).parents[2] / ".lorareg" / "runs").rglob("metrics.jsonl"))
TOTAL = 120


@dataclass
class Ear:
    """A watcher that remembers what it is told."""

    notes: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    validations: list[int] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)

    def stage(self, what: str, done: int, total: int) -> None:
        self.stages.append(what)

    def step(self, facts: StepFacts) -> None:
        self.steps.append(facts.step)

    def validated(self, step: int, loss: float, base: float) -> None:
        self.validations.append(step)

    def note(self, text: str) -> None:
        self.notes.append(text)


def replay(
    rows: Iterable[Mapping[str, Any]], total: int, past: Sequence[Mapping[str, Any]] = ()
) -> Ear:
    """Tell the trends a run as the loop would."""
    ear = Ear()
    trends = Trends(ear, lambda: past)
    for row in rows:
        if "loss" in row:
            trends.step(StepFacts(row["step"], total, row["loss"], 1e-4, 1.0, 2, 0.1))
        else:
            trends.validated(row["step"], row["validation_loss"], 1.0)
    return ear


def falling(steps: int = TOTAL, noise: float = 0.3) -> list[dict[str, float]]:
    """Training losses that fall to a third, as noisy as those of a diffusion model."""
    dice = random.Random(1)
    return [
        {"step": n, "loss": (0.3 + 0.7 * math.exp(-n / 40)) * (1 + noise * dice.uniform(-1, 1))}
        for n in range(1, steps + 1)
    ]


def flat(steps: int = TOTAL, noise: float = 0.3, seed: int = 2) -> list[dict[str, float]]:
    dice = random.Random(seed)
    return [{"step": n, "loss": 1 + noise * dice.uniform(-1, 1)} for n in range(1, steps + 1)]


def with_validations(rows: list[dict[str, float]], losses: Sequence[float]) -> list[dict[str, Any]]:
    """Validations spread evenly over the run, the first one at step 0."""
    every = len(rows) // (len(losses) - 1)
    found: list[dict[str, Any]] = [{"step": 0, "validation_loss": losses[0]}]
    for row in rows:
        found.append(row)
        if row["step"] % every == 0:
            number = int(row["step"]) // every
            found.append({"step": row["step"], "validation_loss": losses[number]})
    return found


def test_three_rises_while_training_falls_are_overfitting_and_name_the_step_that_is_kept() -> None:
    rows = with_validations(falling(), [1.0, 0.8, 0.7, 0.72, 0.75, 0.79, 0.85])

    notes = replay(rows, TOTAL).notes

    assert len(notes) == 1
    assert (
        "held-out loss rose 3 times in a row, 0.7000 at step 40 to 0.7900 at step 100" in notes[0]
    )
    assert "the adapter of step 40 is kept" in notes[0]


def test_two_rises_are_not_enough() -> None:
    rows = with_validations(falling(), [1.0, 0.8, 0.7, 0.75, 0.8, 0.7, 0.75])

    assert replay(rows, TOTAL).notes == []


def test_rises_in_the_last_digits_are_not_enough() -> None:
    rows = with_validations(falling(), [1.0, 0.8, 0.7, 0.7001, 0.7002, 0.7003, 0.7004])

    assert replay(rows, TOTAL).notes == []


def test_held_out_loss_that_rises_with_the_training_loss_is_not_overfitting() -> None:
    rising = [row | {"loss": 2 - row["loss"]} for row in falling()]
    losses = [(int(row["step"]), row["loss"]) for row in rising]

    assert overfitting(losses, [(0, 1.0), (30, 0.7), (60, 0.8), (90, 0.9), (120, 1.0)]) is None


def test_a_loss_that_only_wobbles_is_said_once_with_its_numbers() -> None:
    rows = with_validations(flat(), [1.0, 1.01, 1.02, 1.0])

    notes = replay(rows, TOTAL).notes

    assert len(notes) == 1
    assert "the training loss does not fall" in notes[0]
    assert "in the first" in notes[0]
    assert "noise 0.0" in notes[0]
    assert "no held-out loss is below the base's" in notes[0]


def test_held_out_loss_below_the_base_is_a_fall_whatever_the_noise_hides() -> None:
    rows = with_validations(flat(), [1.0, 0.99, 0.985, 0.98])

    assert replay(rows, TOTAL).notes == []


def test_a_loss_that_rises_is_said_even_without_validation() -> None:
    rising = [row | {"loss": row["loss"] + row["step"] / TOTAL} for row in flat()]

    assert any("does not fall" in note for note in replay(rising, TOTAL).notes)


def test_a_few_steps_say_nothing() -> None:
    assert replay(flat(steps=20), 20).notes == []


def test_a_resumed_run_is_judged_from_its_beginning() -> None:
    rows = with_validations(falling(), [1.0, 0.8, 0.7, 0.72, 0.75, 0.79, 0.85])
    before = [row for row in rows if row["step"] <= 60]

    resumed = replay([row for row in rows if row["step"] > 60], TOTAL, past=before)

    assert resumed.notes == replay(rows, TOTAL).notes


def test_everything_is_passed_on_unchanged() -> None:
    rows = with_validations(falling(), [1.0, 0.8, 0.7])
    ear = replay(rows, TOTAL)
    trends = Trends(ear, list)

    trends.stage("encoding pictures", 1, 2)
    trends.note("hello")

    assert ear.steps == list(range(1, TOTAL + 1))
    assert ear.validations == [0, 60, 120]
    assert (ear.stages, ear.notes) == (["encoding pictures"], ["hello"])


@given(st.integers(0, 1000), st.floats(0.01, 0.6))
def test_a_loss_that_falls_by_half_is_never_called_a_standstill(seed: int, noise: float) -> None:
    dice = random.Random(seed)
    losses = [
        (n, (0.5 + 0.5 * math.exp(-n / 40)) * (1 + noise * dice.uniform(-1, 1)))
        for n in range(1, TOTAL + 1)
    ]

    assert standstill(losses, [(0, 1.0), (60, 1.1)]) is None


@pytest.mark.parametrize("path", RUNS, ids=lambda path: f"{path.parts[-4]}-{path.parts[-3]}")
def test_the_sample_runs_of_this_registry_raise_no_alarm(path: Path) -> None:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    total = max(row["step"] for row in rows)

    assert replay(rows, total).notes == []
