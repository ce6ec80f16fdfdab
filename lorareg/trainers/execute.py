"""One training run from prepared data to weights in memory; nothing of the registry changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lorareg.registry import lock
from lorareg.registry.workspace import Workspace
from lorareg.trainers import inject, runtime
from lorareg.trainers.loop import Loop
from lorareg.trainers.prepare import Prepared
from lorareg.trainers.quiet import quiet_libraries
from lorareg.trainers.randomness import Draws
from lorareg.trainers.report import curves
from lorareg.trainers.samples import Sampler
from lorareg.trainers.watching import Watcher
from lorareg.weights.adapter import LoraAdapter


@dataclass(frozen=True)
class Options:
    """How to run, as far as it does not change what comes out.

    Attributes:
        restart: forget checkpoints and begin anew.
        force: train even if the lock already has this fingerprint.
        precision: instead of the manifest's; ``reproduce`` passes what the lock recorded.
        threads: CPU threads; None takes one a core.
    """

    restart: bool = False
    force: bool = False
    precision: str | None = None
    threads: int | None = None

    @property
    def anew(self) -> bool:
        """Whether an up-to-date lock is no reason to stop."""
        return self.restart or self.force


@dataclass(frozen=True)
class Made:
    """What a finished run leaves in memory."""

    adapter: LoraAdapter
    result: lock.Result
    environment: lock.Environment


def execute(
    workspace: Workspace,
    prepared: Prepared,
    options: Options,
    run: Path,
    watcher: Watcher,
    stop: Callable[[], bool],
) -> Made:
    """Train what is prepared, in the folder ``run``; nothing else of the registry changes."""
    manifest, task = prepared.manifest, prepared.task
    place = runtime.choose(
        options.precision or manifest.train.precision, workspace.cache, options.threads
    )
    runtime.settle(place)
    quiet_libraries()
    watcher.note(f"{place.device}, {place.dtype}, {place.threads} threads")
    models = task.load(place)
    ranks = dict.fromkeys(task.targets(manifest.lora), manifest.lora.rank)
    adapters = inject.inject(models, ranks, manifest.lora, Draws(manifest.train.seed))
    sampler = Sampler(task, adapters, manifest.sample, run)
    loop = Loop(
        task, adapters, manifest.train, place, run, watcher, stop,
        sample=sampler.keep, sample_steps=manifest.sample.every_steps,
    )  # fmt: skip
    cursor = loop.run()
    curves.draw_loss(run, str(manifest.id))
    replies = sampler.final()
    result = lock.Result(
        steps=cursor.step,
        best_step=cursor.best_step or cursor.step,
        train_loss=cursor.train_loss,
        base_validation_loss=cursor.base_loss,
        validation_loss=cursor.validation_loss if cursor.best_loss is None else cursor.best_loss,
        seconds=round(cursor.seconds, 1),
        rank=manifest.lora.rank,
        alpha=manifest.lora.alpha,
        modules=len(adapters.layers),
        stopped="early" if cursor.finished == "early" else "finished",
        held_out=len(loop.plan.held_out),
        replies=tuple(replies),
    )
    history = workspace.history
    environment = runtime.environment(place, history.head(), history.is_dirty())
    return Made(adapters.snapshot(), result, environment)
