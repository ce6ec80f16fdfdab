"""Who is told how a run goes, and what it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class StepFacts:
    """One optimizer step.

    Attributes:
        step: its number, from 1; total: of the run.
        loss: mean over the step's loss terms.
        rate: learning rate; norm: of the gradient, before clipping.
        units: pictures or supervised tokens that it learned from.
        seconds: it took.
        unit: what ``units`` counts, "image", "token" or "pair".
    """

    step: int
    total: int
    loss: float
    rate: float
    norm: float
    units: int
    seconds: float
    unit: str = "image"


class Watcher(Protocol):
    """Who is told how a run goes."""

    def stage(self, what: str, done: int, total: int) -> None:
        """Work before the first step goes on: pictures checked, captions encoded."""
        ...

    def step(self, facts: StepFacts) -> None:
        """An optimizer step is done."""
        ...

    def validated(self, step: int, loss: float, base: float) -> None:
        """A validation is done; ``base`` is the loss of the base alone."""
        ...

    def note(self, text: str) -> None:
        """Something a person should know."""
        ...
