"""The shared LoRA core: one loop for every task, as the order in which things happen.

A step is a pure function of (seed, step number, weights so far): the order of records, every draw
and the learning rate are computed from the step number. So a run that is resumed at any step is the
run that was never stopped, bit for bit on a CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from lorareg.errors import InterruptedTrainingError, TrainingError
from lorareg.registry.runfacts import Rung
from lorareg.registry.training import Training
from lorareg.trainers.adapters.inject import Adapters
from lorareg.trainers.core import checkpoints, held_out
from lorareg.trainers.core.checkpoints import Cursor
from lorareg.trainers.core.forward import Setup
from lorareg.trainers.core.ladder import Ladder, OutOfMemory
from lorareg.trainers.core.plan import Plan
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.state import State
from lorareg.trainers.core.step import Gradient, check_finite, gradient
from lorareg.trainers.core.task import Runtime, Task
from lorareg.trainers.core.watching import StepFacts, Watcher
from lorareg.trainers.machine.ranks import Ranks
from lorareg.trainers.report.metrics import MetricsLog


class Loop:
    """One training run, from wherever it stands to its end.

    Args:
        task: loaded.
        adapters: injected into the task's model.
        settings: of the manifest.
        runtime: device and precision.
        folder: of the run; holds checkpoints, metrics, samples.
        watcher: is told.
        stop: asked after every step; True saves and stops.
        sample: called with the step number when samples are due.
        sample_steps: steps between two samples; 0 for none.
        ranks: which of the processes of the run this is.
        rungs: what is known to be too much for memory, of a run that this one repeats.
    """

    def __init__(
        self,
        task: Task,
        adapters: Adapters,
        settings: Training,
        runtime: Runtime,
        folder: Path,
        watcher: Watcher,
        stop: Callable[[], bool],
        sample: Callable[[int], None],
        sample_steps: int,
        ranks: Ranks = Ranks(),  # noqa: B008  (frozen)
        rungs: Sequence[Rung] = (),
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.watcher = watcher
        self.stop = stop
        self.sample = sample
        self.sample_steps = sample_steps
        self.ranks = ranks
        self.plan = Plan.of(task.ids, settings, task.shape)
        parameters = adapters.named_parameters()
        self.setup = Setup(
            task, adapters, parameters, settings, runtime, folder, ranks, self.plan,
            Draws(settings.seed),
        )  # fmt: skip
        self.state = State(parameters, settings, self.plan.total)
        self.ladder = Ladder(adapters.models.values(), settings, watcher.note, rungs)
        self.cursor = Cursor()
        self._metrics: MetricsLog | None = None
        self._started = time.monotonic()

    def run(self) -> Cursor:
        """Train to the end and leave the best adapter in the model.

        Raises:
            InterruptedTrainingError: ``stop`` said so; the state is saved.
            TrainingError: a loss or gradient is not finite, memory is too small for a single
                record, or nothing moved.
        """
        self._resume()
        if self.settings.warmup_steps >= self.plan.total:
            self.watcher.note(
                f"warm-up takes all {self.plan.total} steps: the learning rate never gets to "
                f"{self.settings.learning_rate:g}; lower train.warmup_steps"
            )
        self._metrics = MetricsLog(self.folder, self.cursor.step) if self.ranks.leads else None
        try:
            if self.cursor.step == 0:
                self._validate()
            while not self.cursor.finished:
                self._advance()
        finally:
            if self._metrics:
                self._metrics.close()
        self._finish()
        return self.cursor

    def _advance(self) -> None:
        began = time.monotonic()
        step, last = self.cursor.step, self.cursor.step + 1 == self.plan.total
        found = self._gradient(step)
        self.state.step(step)
        self.cursor = replace(self.cursor, step=step + 1, train_loss=found.loss)
        rate = self.state.optimizer.rate(step)
        self._log({"loss": found.loss, "learning_rate": rate, "grad_norm": found.norm})
        self.watcher.step(
            StepFacts(
                step + 1, self.plan.total, found.loss, rate, found.norm, found.units,
                time.monotonic() - began, self.setup.task.unit,
            )
        )  # fmt: skip
        if last or (step + 1) % self._validation_steps == 0:
            self._validate()
        if last and not self.cursor.finished:
            self.cursor = replace(self.cursor, finished="finished")
        stopping = self.ranks.any(self.stop())
        sampling = self._samples_at(step + 1)
        due = sampling or (step + 1) % self.settings.save_steps == 0
        if self.cursor.finished or stopping or due:
            self._save()
        if sampling:  # after the save: whatever goes wrong in it costs no step
            self._sample()
        if stopping and not self.cursor.finished:
            self.ranks.together(self._interrupt)

    def _gradient(self, step: int) -> Gradient:
        """The gradient of a step, on lower rungs until it fits into memory."""
        while True:
            try:
                return gradient(self.setup, step, self.ladder.limit(step))
            except OutOfMemory as error:
                said = str(error)
            # out of the handler, where the failed pass is no longer held by its error
            self.ranks.together(partial(self.ladder.lower, step, said))
            self.cursor = replace(self.cursor, rungs=self.ladder.rungs)
            self._save()  # so that a run that is killed from here on takes the same rung here

    def _validate(self) -> None:
        if not self.plan.held_out:
            return
        step = self.cursor.step
        with self.state.judged():
            loss = held_out.loss(self.setup, self.ladder.limit(step - 1))
            seen = held_out.measured(self.setup)  # before the base alone is judged
            what = f"validation loss of step {step}"
            self.ranks.together(lambda: check_finite(self.setup, loss, what, self.plan.held_out))
            self.cursor = self.cursor.validated(loss, self.settings.validation)
            if step == 0 and self.state.begins_changed:
                self.cursor = replace(self.cursor, base_loss=self._loss_of_base())
            if self.cursor.best_step == step > 0:
                self.state.remember_best()
        self._log({"validation_loss": loss, **seen})
        self.watcher.validated(step, loss, self.cursor.base_loss or loss)

    def _loss_of_base(self) -> float:
        with self.setup.adapters.disabled():
            return held_out.loss(self.setup, self.ladder.limit(-1))

    @property
    def _validation_steps(self) -> int:
        return self.settings.validation.every_steps or self.plan.steps_per_epoch

    def _samples_at(self, step: int) -> bool:
        return self.sample_steps > 0 and step > 0 and step % self.sample_steps == 0

    def _sample(self) -> None:
        if self.ranks.leads:
            with self.state.judged():
                self.sample(self.cursor.step)

    def _log(self, values: Mapping[str, float]) -> None:
        if self._metrics:
            self._metrics.write(self.cursor.step, values)

    def _interrupt(self) -> None:
        raise InterruptedTrainingError(
            f"stopped after step {self.cursor.step} of {self.plan.total}",
            why="you asked for it; everything so far is saved",
            fix="run the same lorareg train again to go on from here",
        )

    def _save(self) -> None:
        now = time.monotonic()
        seconds = self.cursor.seconds + now - self._started
        self._started = now
        self.cursor = replace(self.cursor, seconds=seconds, place=self._place)
        self.ranks.together(self._write)

    def _write(self) -> None:
        bundle = self.state.bundle()
        if not self.ranks.leads:
            return
        if self._metrics:
            self._metrics.sync()  # a power cut must not take lines of steps that the bundle has
        keep = self.settings.keep_checkpoints
        checkpoints.save(self.folder / "checkpoints", self.cursor, bundle, keep)

    def _resume(self) -> None:
        folder = self.folder / "checkpoints"
        found = self.ranks.decided(checkpoints.latest(folder) if self.ranks.leads else None)
        if found is None:
            return
        self.cursor, bundle = found
        self.state.restore(bundle)
        self.ladder.rungs = self.cursor.rungs
        self.watcher.note(f"resumed after step {self.cursor.step} of {self.plan.total}")
        if self.cursor.place not in ("", self._place):
            self.watcher.note(
                f"it ran on {self.cursor.place} and goes on on {self._place}: the weights will be "
                "those of an unbroken run up to rounding, not to the bit"
            )
        if self._samples_at(self.cursor.step):
            self._sample()  # a kill may have come between the save and the sample

    @property
    def _place(self) -> str:
        runtime, count = self.setup.runtime, self.ranks.count
        words = f"{runtime.device}, {runtime.dtype}, {runtime.kernels} kernels"
        return words if count == 1 else f"{words}, {count} processes"

    def _finish(self) -> None:
        self.state.settle()
        self.ranks.together(self._check_moved)
        cursor = self.cursor
        if cursor.start_loss is not None and (cursor.best_loss or 0.0) >= cursor.start_loss:
            start = "what it started from" if self.state.begins_changed else "the base"
            self.watcher.note(
                f"the adapter is no better than {start} on the held-out records: "
                f"{cursor.best_loss:.4f} against {cursor.start_loss:.4f}"
            )

    def _check_moved(self) -> None:
        if not self.state.moved:
            raise TrainingError(
                "the adapter did not move",
                why="every up matrix is after the last step what it was before the first",
                fix="raise train.learning_rate or train.epochs",
            )
