"""What the curves of a run say before it is over: overfitting, or no learning at all.

Both are judged from the metrics alone, and said in one sentence, once. A single training loss says
little: it depends on the noise and the records that the step drew. So means over many steps are
compared, with their standard errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from lorareg.trainers.core.watching import StepFacts, Watcher

RISES = 3  # validations in a row that are each worse than the one before
MARGIN = 0.01  # of the best held-out loss; less than that is no rise
MIN_STEPS = 40  # training losses below which nothing can be said
ERRORS = 2.0  # standard errors that a fall must have to be one

Point = tuple[int, float]  # step and loss


class Trends:
    """Passes everything on to another watcher, and adds a note when a trend is bad.

    Args:
        watcher: who is told.
        past: rows of the metrics of a run that is resumed, asked for at its first step.
    """

    def __init__(self, watcher: Watcher, past: Callable[[], Sequence[Mapping[str, Any]]]) -> None:
        self._watcher = watcher
        self._past = past
        self._losses: list[Point] = []
        self._held_out: list[Point] = []
        self._said: set[str] = set()

    def stage(self, what: str, done: int, total: int) -> None:
        """Work before the first step."""
        self._watcher.stage(what, done, total)

    def step(self, facts: StepFacts) -> None:
        """An optimizer step; half-way the training loss is looked at."""
        if not self._losses and facts.step > 1:
            self._recall(facts.step)
        self._losses.append((facts.step, facts.loss))
        self._watcher.step(facts)
        if facts.step in (facts.total // 2, facts.total):
            self._say("standstill", standstill(self._losses, self._held_out))

    def validated(self, step: int, loss: float, base: float) -> None:
        """A validation."""
        self._held_out.append((step, loss))
        self._watcher.validated(step, loss, base)
        self._say("overfitting", overfitting(self._losses, self._held_out))

    def note(self, text: str) -> None:
        """Something a person should know."""
        self._watcher.note(text)

    def _say(self, what: str, sentence: str | None) -> None:
        if sentence and what not in self._said:
            self._said.add(what)
            self._watcher.note(sentence)

    def _recall(self, step: int) -> None:
        rows = [row for row in self._past() if row["step"] < step]
        self._losses = [(row["step"], row["loss"]) for row in rows if "loss" in row]
        held_out = [(r["step"], r["validation_loss"]) for r in rows if "validation_loss" in r]
        self._held_out = held_out + [point for point in self._held_out if point not in held_out]


def overfitting(losses: Sequence[Point], held_out: Sequence[Point]) -> str | None:
    """A sentence if held-out loss rises while training loss falls, else None.

    Args:
        losses: of training, one a step.
        held_out: of every validation, the base's own at step 0 included.
    """
    last = held_out[-RISES - 1 :]
    if len(last) <= RISES or any(after <= before for (_, before), (_, after) in pairwise(last)):
        return None
    best_step, best = min(held_out[1:], key=lambda point: point[1], default=held_out[0])
    step, loss = last[-1]
    if loss < best * (1 + MARGIN):
        return None
    before = [value for at, value in losses if 2 * best_step - step < at <= best_step]
    after = [value for at, value in losses if best_step < at <= step]
    if not before or not after or _mean(after) >= _mean(before):
        return None
    return (
        f"overfitting: held-out loss rose {RISES} times in a row, {best:.4f} at step {best_step} "
        f"to {loss:.4f} at step {step}, while training loss fell from {_mean(before):.4f} to "
        f"{_mean(after):.4f}; the adapter of step {best_step} is kept"
    )


def standstill(losses: Sequence[Point], held_out: Sequence[Point]) -> str | None:
    """A sentence if neither training loss nor held-out loss fell, else None.

    The first and the last third of the training losses are compared. Held-out losses are measured
    with fixed noise and outweigh them: one below the base's own is a fall. Without them only a mean
    that is no lower at all counts, since slow learning can hide in the noise.

    Args:
        losses: of training, one a step.
        held_out: of every validation, the base's own at step 0 included.
    """
    if len(losses) < MIN_STEPS:
        return None
    third = len(losses) // 3
    early = [value for _, value in losses[:third]]
    late = [value for _, value in losses[-third:]]
    noise = math.hypot(_error(early), _error(late))
    measured = held_out[1:]
    if _mean(early) - _mean(late) > (ERRORS * noise if measured else 0.0):
        return None
    if any(loss < held_out[0][1] for _, loss in measured):
        return None
    return (
        f"the training loss does not fall: {_mean(early):.4f} in the first {third} steps, "
        f"{_mean(late):.4f} in the last {third}, noise {noise:.4f}"
        + (", and no held-out loss is below the base's" if measured else "")
        + "; look at train.learning_rate, lora.targets and the captions"
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _error(values: Sequence[float]) -> float:
    """Standard error of the mean."""
    mean = _mean(values)
    spread = sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
    return math.sqrt(spread / len(values))
