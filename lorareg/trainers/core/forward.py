"""What a run computes with, and how the records of a step are cut into forward passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch

from lorareg.registry.training import Training
from lorareg.trainers.adapters.inject import Adapters
from lorareg.trainers.core.plan import Plan
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Runtime, Task
from lorareg.trainers.machine.ranks import Ranks


@dataclass(frozen=True)
class Setup:
    """What a run computes with; only the weights of ``adapters`` change.

    Attributes:
        task: loaded.
        adapters: injected into the task's models.
        parameters: theirs, by name.
        settings: of the manifest.
        runtime: device and precision.
        folder: of the run; holds checkpoints, metrics, samples.
        ranks: which of the processes of the run this is.
        plan: which records a step sees.
        draws: place of all randomness.
    """

    task: Task
    adapters: Adapters
    parameters: Mapping[str, torch.nn.Parameter]
    settings: Training
    runtime: Runtime
    folder: Path
    ranks: Ranks
    plan: Plan
    draws: Draws

    def computing(self) -> AbstractContextManager[None]:
        """Within the block the frozen model computes in the precision of the run."""
        return self.adapters.computing(self.runtime.device, self.runtime.dtype)


@dataclass(frozen=True)
class Share:
    """One forward pass.

    Attributes:
        records: their ids.
        name: of its dropout masks: the number of the micro-batch, and where in it a part begins.
    """

    records: Sequence[str]
    name: tuple[int, ...]


def shares(batches: Sequence[Sequence[str]], ranks: Ranks, limit: int | None = None) -> list[Share]:
    """What one process computes of some micro-batches.

    Whole micro-batches are handed out in turn while there are enough of them for all processes;
    fewer are cut into parts first.

    Args:
        batches: of all processes.
        ranks: which of them this is.
        limit: the most records of a forward pass, where memory is short.
    """
    parts = max(1, -(-ranks.count // max(1, len(batches))))
    every = [
        (number, start, end)
        for number, batch in enumerate(batches)
        for start, end in _cuts(len(batch), parts)
    ]
    found = []
    for number, start, end in every[ranks.rank :: ranks.count]:
        batch = batches[number]
        for first in range(start, end, limit or len(batch)):
            records = batch[first : min(end, first + (limit or len(batch)))]
            whole = len(records) == len(batch)
            found.append(Share(records, (number,) if whole else (number, first)))
    return found


def _cuts(length: int, parts: int) -> list[tuple[int, int]]:
    """Where the parts of a batch begin and end, as equal as they can be."""
    edges = [length * part // parts for part in range(parts + 1)]
    return list(zip(edges, edges[1:], strict=False))
