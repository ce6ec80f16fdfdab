"""The shared LoRA core: one loop for every task.

A step is a pure function of (seed, step number, weights so far): the order of records, every draw
and the learning rate are computed from the step number. So a run that is resumed at any step is the
run that was never stopped, bit for bit on a CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from lorareg.errors import InterruptedTrainingError, TrainingError
from lorareg.registry.training import Training
from lorareg.trainers import checkpoints, optim
from lorareg.trainers.checkpoints import Cursor
from lorareg.trainers.inject import Adapters
from lorareg.trainers.plan import Plan
from lorareg.trainers.randomness import Draws
from lorareg.trainers.report.metrics import MetricsLog
from lorareg.trainers.tasks.base import Runtime, Task
from lorareg.trainers.watching import StepFacts, Watcher


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
    ) -> None:
        self.task = task
        self.adapters = adapters
        self.settings = settings
        self.runtime = runtime
        self.folder = folder
        self.watcher = watcher
        self.stop = stop
        self.sample = sample
        self.sample_steps = sample_steps
        self.plan = Plan.of(task.ids, settings)
        self.draws = Draws(settings.seed)
        self.parameters = adapters.named_parameters()
        self.optimizer = optim.optimizer(self.parameters.values(), settings)
        self.best: dict[str, torch.Tensor] = {}
        self.cursor = Cursor()
        self._started = time.monotonic()

    def run(self) -> Cursor:
        """Train to the end and leave the best adapter in the model.

        Raises:
            InterruptedTrainingError: ``stop`` said so; the state is saved.
            TrainingError: a loss or gradient is not finite, or nothing moved.
        """
        self._resume()
        if self.settings.warmup_steps >= self.plan.total:
            self.watcher.note(
                f"warm-up takes all {self.plan.total} steps: the learning rate never gets to "
                f"{self.settings.learning_rate:g}; lower train.warmup_steps"
            )
        metrics = MetricsLog(self.folder, self.cursor.step)
        try:
            if self.cursor.step == 0:
                self._validate(metrics)
            while not self.cursor.finished:
                self._advance(metrics)
        finally:
            metrics.close()
        self._finish()
        return self.cursor

    def _advance(self, metrics: MetricsLog) -> None:
        step = self.cursor.step
        rate = optim.learning_rate(self.settings, step, self.plan.total)
        began = time.monotonic()
        loss, norm, units = self._step(step, rate)
        self.cursor = replace(self.cursor, step=step + 1, train_loss=loss)
        metrics.write(step + 1, {"loss": loss, "learning_rate": rate, "grad_norm": norm})
        seconds = time.monotonic() - began
        self.watcher.step(StepFacts(step + 1, self.plan.total, loss, rate, norm, units, seconds))
        last = step + 1 == self.plan.total
        if last or (step + 1) % self._validation_steps == 0:
            self._validate(metrics)
        if last and not self.cursor.finished:
            self.cursor = replace(self.cursor, finished="finished")
        stopping = self.stop()
        sampling = self.sample_steps > 0 and (step + 1) % self.sample_steps == 0
        due = sampling or (step + 1) % self.settings.save_steps == 0
        if self.cursor.finished or stopping or due:
            self._save()
        if sampling:  # after the save: whatever goes wrong in it costs no step
            self.sample(step + 1)
        if stopping and not self.cursor.finished:
            raise InterruptedTrainingError(
                f"stopped after step {step + 1} of {self.plan.total}",
                why="you asked for it; everything so far is saved",
                fix="run the same lorareg train again to go on from here",
            )

    def _step(self, step: int, rate: float) -> tuple[float, float, int]:
        """One optimizer step; returns the mean loss, the gradient norm and the loss terms."""
        batches = self.plan.micro_batches(step, self.draws)
        weight = sum(self.task.weight(record) for batch in batches for record in batch)
        draws = self.draws.at("train", step)
        self.adapters.train(True)
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for number, batch in enumerate(batches):
            torch.manual_seed(draws.key("dropout", number))
            with self._autocast():
                loss = self.task.losses(batch, draws).sum() / weight
            self._check_finite(float(loss.detach()), "loss", step, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        norm = self._clip()
        self._check_finite(norm, "gradient", step, [r for batch in batches for r in batch])
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return total, norm, weight

    def _clip(self) -> float:
        limit = self.settings.max_grad_norm or math.inf
        return float(torch.nn.utils.clip_grad_norm_(self.parameters.values(), limit))

    def _check_finite(self, value: float, what: str, step: int, records: Sequence[str]) -> None:
        if math.isfinite(value):
            return
        raise TrainingError(
            f"the {what} of step {step + 1} is {value}",
            why=f"records: {', '.join(records)}",
            fix="look at these records, or lower train.learning_rate"
            + ("" if self.runtime.dtype == "float32" else ", or set train.precision: fp32"),
        )

    def _validate(self, metrics: MetricsLog) -> None:
        if not self.plan.held_out:
            return
        loss = self._held_out_loss()
        step = self.cursor.step
        self._check_finite(loss, "validation loss", step - 1, self.plan.held_out)
        metrics.write(step, {"validation_loss": loss})
        self.cursor = self.cursor.validated(loss, self.settings.validation)
        if self.cursor.best_step == step > 0:
            self.best = {n: p.detach().cpu().clone() for n, p in self.parameters.items()}
        self.watcher.validated(step, loss, self.cursor.base_loss or loss)

    def _held_out_loss(self) -> float:
        self.adapters.train(False)
        total, weight = 0.0, 0
        with torch.no_grad(), self._autocast():
            for start in range(0, len(self.plan.held_out), self.plan.batch):
                batch = self.plan.held_out[start : start + self.plan.batch]
                for number in range(self.task.validation_rounds):
                    draws = self.draws.at("validation", number)
                    total += float(self.task.losses(batch, draws, number).sum())
                    weight += sum(self.task.weight(record) for record in batch)
        return total / weight

    @property
    def _validation_steps(self) -> int:
        return self.settings.validation.every_steps or self.plan.steps_per_epoch

    @contextmanager
    def _autocast(self) -> Iterator[None]:
        dtype = getattr(torch, self.runtime.dtype)
        kind = torch.device(self.runtime.device).type
        enabled = dtype is not torch.float32
        with (
            torch.autocast(kind, dtype=dtype, enabled=enabled),
            self.adapters.uncast_inputs(enabled),
        ):
            yield

    def _save(self) -> None:
        now = time.monotonic()
        seconds = self.cursor.seconds + now - self._started
        self._started = now
        self.cursor = replace(self.cursor, seconds=seconds)
        moments = optim.state_tensors(self.optimizer, self.parameters)
        checkpoints.save(
            self.folder / "checkpoints",
            self.cursor,
            {"adapter": dict(self.parameters), "best": self.best, "optimizer": moments},
        )

    def _resume(self) -> None:
        found = checkpoints.latest(self.folder / "checkpoints")
        if found is None:
            return
        self.cursor, bundle = found
        self._put(bundle["adapter"])
        self.best = bundle.get("best", {})
        optim.restore_state(self.optimizer, self.parameters, bundle["optimizer"])
        self.watcher.note(f"resumed after step {self.cursor.step} of {self.plan.total}")

    def _finish(self) -> None:
        if self.best:
            self._put(self.best)
        if not any(n.endswith(".up") and p.any() for n, p in self.parameters.items()):
            raise TrainingError(
                "the adapter did not move",
                why="every up matrix is still zero after the last step",
                fix="raise train.learning_rate or train.epochs",
            )
        cursor = self.cursor
        if cursor.base_loss is not None and (cursor.best_loss or 0.0) >= cursor.base_loss:
            self.watcher.note(
                "the adapter is no better than the base on the held-out records: "
                f"{cursor.best_loss:.4f} against {cursor.base_loss:.4f}"
            )

    def _put(self, values: Mapping[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(values[name])
