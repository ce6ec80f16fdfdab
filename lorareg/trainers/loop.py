"""The shared LoRA core: one loop for every task.

A step is a pure function of (seed, step number, weights so far): the order of records, every draw
and the learning rate are computed from the step number. So a run that is resumed at any step is the
run that was never stopped, bit for bit on a CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch

from lorareg.errors import InterruptedTrainingError, TrainingError
from lorareg.registry.manifest import Training
from lorareg.trainers import checkpoints, optim
from lorareg.trainers.checkpoints import Cursor
from lorareg.trainers.inject import Adapters
from lorareg.trainers.randomness import Draws
from lorareg.trainers.report.metrics import MetricsLog
from lorareg.trainers.tasks.base import Runtime, Task


class Watcher(Protocol):
    """Who is told how a run goes."""

    def stage(self, what: str, done: int, total: int) -> None:
        """Work before the first step goes on: pictures checked, captions encoded."""
        ...

    def step(self, step: int, total: int, loss: float, rate: float) -> None:
        """An optimizer step is done."""
        ...

    def validated(self, step: int, loss: float, base: float) -> None:
        """A validation is done; ``base`` is the loss of the base alone."""
        ...

    def note(self, text: str) -> None:
        """Something a person should know."""
        ...


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
        order = draws.permutation(len(self.train), "order", epoch)
        group = self.batch * self.accumulation
        chosen = [self.train[i] for i in order[index * group : (index + 1) * group]]
        return [chosen[i : i + self.batch] for i in range(0, len(chosen), self.batch)]


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
        loss, norm = self._step(step, rate)
        self.cursor = replace(self.cursor, step=step + 1, train_loss=loss)
        metrics.write(step + 1, {"loss": loss, "learning_rate": rate, "grad_norm": norm})
        self.watcher.step(step + 1, self.plan.total, loss, rate)
        last = step + 1 == self.plan.total
        if last or (step + 1) % self._validation_steps == 0:
            self._validate(metrics)
        if last and not self.cursor.finished:
            self.cursor = replace(self.cursor, finished="finished")
        stopping = self.stop()
        if self.cursor.finished or stopping or (step + 1) % self.settings.save_steps == 0:
            self._save()
        if self.sample_steps and (step + 1) % self.sample_steps == 0:
            self.sample(step + 1)
        if stopping and not self.cursor.finished:
            raise InterruptedTrainingError(
                f"stopped after step {step + 1} of {self.plan.total}",
                why="you asked for it; everything so far is saved",
                fix="run the same lorareg train again to go on from here",
            )

    def _step(self, step: int, rate: float) -> tuple[float, float]:
        """One optimizer step; returns the mean loss and the gradient norm."""
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
        return total, norm

    def _clip(self) -> float:
        limit = self.settings.max_grad_norm or math.inf
        return float(torch.nn.utils.clip_grad_norm_(self.parameters.values(), limit))

    def _check_finite(self, value: float, what: str, step: int, records: Sequence[str]) -> None:
        if math.isfinite(value):
            return
        raise TrainingError(
            f"the {what} of step {step + 1} is {value}",
            why=f"records: {', '.join(records)}",
            fix="look at these records, or lower train.learning_rate; the last checkpoint is "
            "intact, and lorareg train goes on from it",
        )

    def _validate(self, metrics: MetricsLog) -> None:
        if not self.plan.held_out:
            return
        loss = self._held_out_loss()
        cursor, step = self.cursor, self.cursor.step
        metrics.write(step, {"validation_loss": loss})
        base = loss if cursor.base_loss is None else cursor.base_loss
        cursor = replace(cursor, validation_loss=loss, base_loss=base)
        if step > 0:
            cursor = self._judge(cursor, loss)
        self.cursor = cursor
        self.watcher.validated(step, loss, base)

    def _judge(self, cursor: Cursor, loss: float) -> Cursor:
        """Keep the best adapter, and give up when patience is at its end."""
        rule = self.settings.validation
        if cursor.best_loss is None or loss < cursor.best_loss - rule.min_delta:
            self.best = {n: p.detach().cpu().clone() for n, p in self.parameters.items()}
            return replace(cursor, best_loss=loss, best_step=cursor.step, bad_rounds=0)
        cursor = replace(cursor, bad_rounds=cursor.bad_rounds + 1)
        if rule.patience and cursor.bad_rounds >= rule.patience:
            return replace(cursor, finished="early")
        return cursor

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

    def _autocast(self) -> AbstractContextManager[object]:
        dtype = getattr(torch, self.runtime.dtype)
        kind = torch.device(self.runtime.device).type
        return torch.autocast(kind, dtype=dtype, enabled=dtype is not torch.float32)

    def _save(self) -> None:
        now = time.monotonic()
        seconds = self.cursor.seconds + now - self._started
        self._started = now
        self.cursor = replace(self.cursor, seconds=seconds)
        bundle = _prefixed("adapter/", self.parameters)
        bundle |= _prefixed("best/", self.best)
        bundle |= _prefixed("optimizer/", optim.state_tensors(self.optimizer, self.parameters))
        checkpoints.save(self.folder / "checkpoints", self.cursor, bundle)

    def _resume(self) -> None:
        found = checkpoints.latest(self.folder / "checkpoints")
        if found is None:
            return
        self.cursor, bundle = found
        self._put(_without("adapter/", bundle))
        self.best = _without("best/", bundle)
        optim.restore_state(self.optimizer, self.parameters, _without("optimizer/", bundle))
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


def _prefixed(prefix: str, values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in values.items()}


def _without(prefix: str, values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n.removeprefix(prefix): v for n, v in values.items() if n.startswith(prefix)}
