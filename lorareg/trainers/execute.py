"""One training run from prepared data to weights in memory; nothing of the registry changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lorareg.registry.manifest import Lora
from lorareg.registry.runfacts import Environment, Reply, Result, Rung
from lorareg.registry.workspace import Workspace
from lorareg.trainers.adapters import inject, parents, variants
from lorareg.trainers.adapters.inject import Adapters
from lorareg.trainers.core import optim
from lorareg.trainers.core.loop import Loop
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Kernels, Runtime
from lorareg.trainers.core.watching import Watcher
from lorareg.trainers.machine import footprint, runtime
from lorareg.trainers.machine.probe import Work
from lorareg.trainers.machine.ranks import Ranks
from lorareg.trainers.machine.rehearsed import Rehearsed
from lorareg.trainers.packed.install import install
from lorareg.trainers.prepare import Prepared
from lorareg.trainers.quiet import quiet_libraries
from lorareg.trainers.report import curves, metrics
from lorareg.trainers.report.trends import Trends
from lorareg.trainers.samples import Sampler
from lorareg.weights.adapter import LoraAdapter


@dataclass(frozen=True)
class Options:
    """How to run, as far as it does not change what comes out.

    Attributes:
        restart: forget checkpoints and begin anew.
        force: train even if the lock already has this fingerprint.
        precision: instead of the manifest's; ``reproduce`` passes what the lock recorded.
        threads: CPU threads; None takes one a core.
        kernels: instead of the fastest here; ``reproduce`` passes what the lock recorded.
        from_step: go back to the checkpoint of this step first, and forget later ones.
        rungs: what was done for want of memory in the run to repeat; ``reproduce`` passes it.
        parent: an adapter or a file to start from: the one thing here that shapes the weights. An
            adapter is written into the manifest.
    """

    restart: bool = False
    force: bool = False
    precision: str | None = None
    threads: int | None = None
    kernels: Kernels | None = None
    from_step: int | None = None
    rungs: tuple[Rung, ...] = ()
    parent: str | None = None

    @property
    def anew(self) -> bool:
        """Whether an up-to-date lock is no reason to stop."""
        return self.restart or self.force or self.from_step is not None


@dataclass(frozen=True)
class Made:
    """What a finished run leaves in memory."""

    adapter: LoraAdapter
    result: Result
    environment: Environment


def execute(
    workspace: Workspace,
    prepared: Prepared,
    options: Options,
    run: Path,
    watcher: Watcher,
    stop: Callable[[], bool],
) -> Made:
    """Train what is prepared, in the folder ``run``; nothing else of the registry changes.

    Of several processes only the first returns; the others end when the last step is done.
    """
    manifest, ranks = prepared.manifest, Ranks.current()
    extra = optim.package(manifest.train)
    place = _place(workspace, prepared, options, ranks)
    runtime.settle(place)
    quiet_libraries()
    several = f", {ranks.count} processes" if ranks.count > 1 else ""
    watcher.note(f"{place.device}, {place.dtype}, {place.threads} threads{several}")
    adapters = _adapted(prepared, place, ranks, watcher)
    sampler = Sampler(prepared.task, adapters, manifest.sample, run)
    trends = Trends(watcher, lambda: metrics.read(run / "metrics.jsonl"))
    loop = Loop(
        prepared.task, adapters, manifest.train, place, run, trends, stop,
        sample=sampler.keep, sample_steps=manifest.sample.every_steps,
        ranks=ranks, rungs=options.rungs,
    )  # fmt: skip
    cursor = loop.run()
    ranks.leave_to_leader()
    curves.draw_loss(run, str(manifest.id))
    result = _result(manifest.lora, loop, sampler.final())
    history = workspace.history
    environment = runtime.environment(place, history.head(), history.is_dirty())
    packages = environment.packages | extra
    made_by = {"processes": ranks.count, "rungs": cursor.rungs, "packages": packages}
    return Made(adapters.snapshot(), result, environment.model_copy(update=made_by))


def _adapted(prepared: Prepared, place: Runtime, ranks: Ranks, watcher: Watcher) -> Adapters:
    """The frozen models in memory, with the adapters to train on them; says what is coming."""
    manifest, task = prepared.manifest, prepared.task
    if warned := footprint.load_note(prepared.base, manifest.train, place):
        watcher.note(warned)
    models = ranks.leader_first(lambda: task.load(place))
    for line in (*task.describe(), *variants.costs(manifest.lora)):
        watcher.note(line)
    sizes = inject.ranks_of(task.targets(manifest.lora), manifest.lora)
    adapters = inject.inject(models, sizes, manifest.lora, Draws(manifest.train.seed))
    if prepared.parent:
        watcher.note(parents.start(adapters, prepared.parent))
    if ranks.leads:
        heaviest = task.rehearsal(min(manifest.train.batch_size, len(task.ids)))
        known = Rehearsed.of(prepared.inputs, place).peak_bytes
        for line in footprint.notes(adapters, heaviest, manifest.train, place, known):
            watcher.note(line)
    install(models, adapters, place)
    return adapters


def _place(workspace: Workspace, prepared: Prepared, options: Options, ranks: Ranks) -> Runtime:
    """Where to compute; several processes do it in one precision, with the same kernels."""
    precision = options.precision or prepared.manifest.train.precision
    work = Work.of(prepared.base, prepared.manifest.train)
    mine = ranks.leader_first(
        lambda: runtime.choose(precision, workspace.cache, options.threads, options.kernels, work)
    )
    if ranks.count == 1:
        return mine
    first = ranks.decided(mine)
    return replace(mine, device=ranks.device, dtype=first.dtype, kernels=first.kernels)


def _result(lora: Lora, loop: Loop, replies: Sequence[Reply]) -> Result:
    """How a finished run went, for the lock."""
    cursor, (rank, alpha) = loop.cursor, variants.published(lora)
    return Result(
        steps=cursor.step,
        best_step=cursor.best_step or cursor.step,
        train_loss=cursor.train_loss,
        base_validation_loss=cursor.base_loss,
        validation_loss=cursor.validation_loss if cursor.best_loss is None else cursor.best_loss,
        seconds=round(cursor.seconds, 1),
        rank=rank,
        alpha=alpha,
        modules=len(loop.setup.adapters.layers),
        stopped="early" if cursor.finished == "early" else "finished",
        held_out=len(loop.plan.held_out),
        replies=tuple(replies),
    )
