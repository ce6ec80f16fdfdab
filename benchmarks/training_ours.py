"""Our own contestant: what ``lorareg train`` does in a step, by the product's own code."""

from __future__ import annotations

from pathlib import Path

from lorareg.registry.manifest import Lora
from lorareg.registry.training import Training
from lorareg.trainers.adapters import inject
from lorareg.trainers.core.loop import Loop
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.step import gradient
from lorareg.trainers.core.task import Runtime, Task
from lorareg.trainers.machine import runtime
from lorareg.trainers.machine.ranks import Unheard
from lorareg.trainers.packed.install import install
from lorareg.trainers.quiet import quiet_libraries


class Ours:
    """A run that stands before its first step.

    Args:
        task: nothing loaded yet.
        lora: shape of the adapter.
        settings: of the training.
        place: where and how it computes.
        folder: of the run.
    """

    def __init__(
        self, task: Task, lora: Lora, settings: Training, place: Runtime, folder: Path
    ) -> None:
        runtime.settle(place)
        quiet_libraries()
        models = task.load(place)
        ranks = dict.fromkeys(task.targets(lora), lora.rank)
        self.adapters = inject.inject(models, ranks, lora, Draws(settings.seed))
        install(models, self.adapters, place)
        self.loop = Loop(
            task, self.adapters, settings, place, folder, Unheard(),
            stop=lambda: False, sample=lambda step: None, sample_steps=0,
        )  # fmt: skip
        self._start, self._step = self.adapters.snapshot(), 0

    def step(self) -> float:
        """Gradient and optimizer, as the loop does them."""
        found = gradient(self.loop.setup, self._step)
        self.loop.state.step(self._step)
        self._step += 1
        return found.loss

    def unlearned(self) -> list[float]:
        """Losses of the steps so far with the adapter as it was before them; ends the training."""
        self.adapters.restore(self._start)
        return [gradient(self.loop.setup, step).loss for step in range(self._step)]
