"""The loss of the records that are only measured."""

from __future__ import annotations

from functools import partial

import torch

from lorareg.trainers.core.forward import Setup, shares
from lorareg.trainers.core.ladder import OutOfMemory, halved, noticing_memory


def loss(setup: Setup, limit: int | None = None) -> float:
    """Mean over all loss terms of the held-out records, with noise and timesteps that are fixed.

    Args:
        setup: what to compute with; there are held-out records.
        limit: the most records of a forward pass; halved until it fits into memory.

    Raises:
        TrainingError: memory is too small for a single record.
    """
    ranks = setup.ranks
    total = None
    while total is None:
        try:
            (total,) = ranks.summed([ranks.together(partial(_part, setup, limit))])
        except OutOfMemory as error:
            said = str(error)
        if total is None:
            size = limit or setup.plan.batch
            limit = ranks.together(partial(halved, size, "a validation", said))
    rounds = setup.task.validation_rounds
    return total / (rounds * sum(setup.task.weight(record) for record in setup.plan.held_out))


def measured(setup: Setup) -> dict[str, float]:
    """What the task saw beside the loss: of several processes the mean, by records."""
    ranks, mine = setup.ranks, setup.task.measured()
    if ranks.count == 1:
        return mine
    count = sum(len(share.records) for share in shares(setup.plan.held_out_batches, ranks))
    said = [(weight, values) for weight, values in ranks.gathered((count, mine)) if values]
    total = sum(weight for weight, _ in said)
    names = dict.fromkeys(name for _, values in said for name in values)
    return {name: sum(w * values[name] for w, values in said) / total for name in names}


def _part(setup: Setup, limit: int | None) -> float:
    setup.adapters.train(False)
    total = 0.0
    with noticing_memory(), torch.no_grad(), setup.computing():
        for share in shares(setup.plan.held_out_batches, setup.ranks, limit):
            for number in range(setup.task.validation_rounds):
                draws = setup.draws.at("validation", number)
                total += float(setup.task.losses(share.records, draws, number).sum())
    return total
