"""Which records a step sees: a pure function of the seed and the step number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from lorareg.errors import TrainingError
from lorareg.registry.training import Training
from lorareg.trainers.randomness import Draws


@dataclass(frozen=True)
class Plan:
    """How many steps, and of what.

    Attributes:
        train: ids of the records that are learned.
        held_out: ids of the records that only measure.
        batch: records a forward pass; accumulation: forward passes a step.
        steps_per_epoch: the last step of an epoch may be smaller.
        total: optimizer steps.
    """

    train: tuple[str, ...]
    held_out: tuple[str, ...]
    batch: int
    accumulation: int
    steps_per_epoch: int
    total: int

    @classmethod
    def of(cls, ids: Sequence[str], settings: Training) -> Plan:
        """Split the records by the seed, the same way on every machine.

        Raises:
            TrainingError: the held-out share leaves nothing to learn from.
        """
        share = settings.validation.share
        count = max(1, round(len(ids) * share)) if share else 0
        if count >= len(ids):
            raise TrainingError(
                f"{len(ids)} record(s) cannot be split into training and validation",
                why=f"train.validation.share is {share}",
                fix="add records, or set train.validation.share: 0",
            )
        order = Draws(settings.seed).permutation(len(ids), "split")
        held = set(order[:count])
        train = tuple(name for i, name in enumerate(ids) if i not in held)
        group = settings.batch_size * settings.gradient_accumulation_steps
        per_epoch = math.ceil(len(train) / group)
        return cls(
            train,
            tuple(name for i, name in enumerate(ids) if i in held),
            settings.batch_size,
            settings.gradient_accumulation_steps,
            per_epoch,
            per_epoch * settings.epochs,
        )

    def micro_batches(self, step: int, draws: Draws) -> list[list[str]]:
        """The records of a step, in forward passes."""
        epoch, index = divmod(step, self.steps_per_epoch)
        order = _order(draws, len(self.train), epoch)
        group = self.batch * self.accumulation
        chosen = [self.train[i] for i in order[index * group : (index + 1) * group]]
        return [chosen[i : i + self.batch] for i in range(0, len(chosen), self.batch)]


@lru_cache(maxsize=2)
def _order(draws: Draws, length: int, epoch: int) -> Sequence[int]:
    return draws.permutation(length, "order", epoch)
