"""Which records a step sees: a pure function of the seed and the step number.

The records of one forward pass share a shape. With one shape an epoch is one shuffle, cut into
batches. With several, each shape is cut into batches of its own, and the batches are shuffled, so
that no shape has a part of the epoch for itself; the last batch of each shape may be smaller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from lorareg.errors import TrainingError
from lorareg.registry.training import Training
from lorareg.trainers.core.randomness import Draws


@dataclass(frozen=True)
class Plan:
    """How many steps, and of what.

    Attributes:
        train: ids of the records that are learned.
        shapes: of these records, in the same order.
        held_out_batches: ids of the records that only measure, in forward passes.
        batch: most records of a forward pass; accumulation: most forward passes of a step.
        steps_per_epoch: the last step of an epoch may be smaller.
        total: optimizer steps.
    """

    train: tuple[str, ...]
    shapes: tuple[str, ...]
    held_out_batches: tuple[tuple[str, ...], ...]
    batch: int
    accumulation: int
    steps_per_epoch: int
    total: int

    @classmethod
    def of(
        cls, ids: Sequence[str], settings: Training, shape: Callable[[str], str] = lambda name: ""
    ) -> Plan:
        """Split the records by the seed, the same way on every machine.

        Args:
            ids: of all records.
            settings: of the manifest.
            shape: what the records of one forward pass must have in common.

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
        held_out = [name for i, name in enumerate(ids) if i in held]
        shapes = tuple(shape(name) for name in train)
        size = settings.batch_size
        forward_passes = len(_batched(range(len(train)), shapes, size))
        per_epoch = math.ceil(forward_passes / settings.gradient_accumulation_steps)
        measured = _batched(range(len(held_out)), [shape(name) for name in held_out], size)
        return cls(
            train,
            shapes,
            tuple(tuple(held_out[i] for i in batch) for batch in measured),
            size,
            settings.gradient_accumulation_steps,
            per_epoch,
            per_epoch * settings.epochs,
        )

    @property
    def held_out(self) -> tuple[str, ...]:
        """Ids of the records that only measure."""
        return tuple(name for batch in self.held_out_batches for name in batch)

    def micro_batches(self, step: int, draws: Draws) -> list[list[str]]:
        """The records of a step, in forward passes; those of one pass share a shape."""
        epoch, index = divmod(step, self.steps_per_epoch)
        batches = _epoch(draws, self.shapes, self.batch, epoch)
        chosen = batches[index * self.accumulation : (index + 1) * self.accumulation]
        return [[self.train[i] for i in batch] for batch in chosen]


@lru_cache(maxsize=2)
def _epoch(draws: Draws, shapes: tuple[str, ...], size: int, epoch: int) -> Sequence[Sequence[int]]:
    """All batches of an epoch, as places in the list of records."""
    batches = _batched(draws.permutation(len(shapes), "order", epoch), shapes, size)
    if len(set(shapes)) == 1:
        return batches
    return [batches[i] for i in draws.permutation(len(batches), "batches", epoch)]


def _batched(order: Sequence[int], shapes: Sequence[str], size: int) -> list[list[int]]:
    """Cut an order into batches of one shape each; shapes in the order they first appear."""
    by_shape: dict[str, list[int]] = {}
    for i in order:
        by_shape.setdefault(shapes[i], []).append(i)
    return [
        places[start : start + size]
        for places in by_shape.values()
        for start in range(0, len(places), size)
    ]
