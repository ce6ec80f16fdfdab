"""The one path from a manifest to weights and a lock."""

from __future__ import annotations

import fcntl
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import LoraregError
from lorareg.registry import card, lock
from lorareg.registry.base import public_name
from lorareg.registry.files import sync_folder
from lorareg.registry.ids import AssetId
from lorareg.registry.lock import Lock
from lorareg.registry.manifest import ImageManifest, TextManifest
from lorareg.registry.workspace import AssetFolder, Workspace
from lorareg.trainers import inject, runtime
from lorareg.trainers.changes import fingerprint_now
from lorareg.trainers.data.caption_files import on_disk
from lorareg.trainers.data.check import sheet
from lorareg.trainers.loop import Loop, Watcher
from lorareg.trainers.prepare import Prepared, prepare
from lorareg.trainers.quiet import quiet_libraries
from lorareg.trainers.randomness import Draws
from lorareg.trainers.report import curves
from lorareg.trainers.samples import Sampler
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.formats import diffusers, peft


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
class Outcome:
    """What a call of ``train`` did.

    Attributes:
        trained: False if the lock was up to date already.
        run: folder with metrics, curve and samples; None if nothing was trained.
    """

    asset: AssetId
    lock: Lock
    trained: bool
    run: Path | None


def train(workspace: Workspace, asset: AssetId, options: Options, watcher: Watcher) -> Outcome:
    """Train an adapter, or go on with an interrupted run, and write weights, card and lock.

    The lock is written last: until then ``status`` says that the weights are not the lock's.

    Raises:
        LoraregError: bad input, named before a model is loaded.
        InterruptedTrainingError: Ctrl-C or SIGTERM; the run can be resumed.
    """
    manifest = workspace.load_manifest(asset)
    fingerprint = fingerprint_now(workspace, manifest)
    folder = workspace.folder(asset)
    known = workspace.load_lock(asset)
    done = known is not None and known.fingerprint == fingerprint
    if known and done and not options.anew and workspace.weights_match(folder, known):
        return Outcome(asset, known, trained=False, run=None)
    prepared = prepare(workspace, manifest, watcher.stage)
    if warned := prepared.report.warned:
        watcher.note(f"{prepared.report.dataset}: {warned} (lorareg data check {asset})")
    run = workspace.runs(asset) / fingerprint.partition(":")[2][:16]
    with _exclusive(run, asset), stop_on_signals() as stop:
        if options.restart or (options.force and done):
            shutil.rmtree(run / "checkpoints", ignore_errors=True)
        made = execute(workspace, prepared, options, run, watcher, stop)
        found = _publish(workspace, folder, prepared, made, run)
    return Outcome(asset, found, trained=True, run=run)


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
    model = task.load(place)
    adapters = inject.inject(
        model,
        task.component,
        task.targets(manifest.lora.targets),
        manifest.lora,
        Draws(manifest.train.seed),
    )
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


def _publish(
    workspace: Workspace, folder: AssetFolder, prepared: Prepared, made: Made, run: Path
) -> Lock:
    """Move the weights into place, track them, write the card, and the lock at the very end."""
    manifest = prepared.manifest
    fingerprint = prepared.inputs.fingerprint()
    fresh = run / "weights"
    shutil.rmtree(fresh, ignore_errors=True)
    write_weights(fresh, manifest, made.adapter, fingerprint)
    _replace_folder(fresh, folder.weights)
    remote = workspace.settings.remotes.get(manifest.visibility)
    workspace.store.track(folder.weights, remote=remote)
    preview = run / "preview.png"
    if preview.is_file():
        shutil.copyfile(preview, folder.preview)
    files = sorted(path for path in folder.weights.iterdir() if path.is_file())
    written = Lock(
        asset=str(manifest.id),
        task=manifest.task,
        inputs=prepared.inputs,
        fingerprint=fingerprint,
        environment=made.environment,
        outputs={path.name: lock.output(path) for path in files},
        result=made.result,
    )
    _draw_dataset(workspace, folder, prepared)
    card.write(folder, manifest, written, prepared.report.statistics)
    index = {
        "files": dict(prepared.listing.files),
        "records": dict(prepared.records),
        "statistics": dict(prepared.report.statistics),
    }
    lock.save(folder.dataset, index)
    lock.save(folder.lock, written)
    return written


def _draw_dataset(workspace: Workspace, folder: AssetFolder, prepared: Prepared) -> None:
    """A contact sheet of the pictures, unless only some may see them: git shows it to all."""
    names = [name for name in prepared.listing.images if name in prepared.records]
    folder.sheet.unlink(missing_ok=True)
    if names and prepared.manifest.visibility != "private":
        data = workspace.dataset(prepared.manifest)
        sheet.draw([on_disk(data, name) for name in names], folder.sheet)


def write_weights(
    folder: Path,
    manifest: ImageManifest | TextManifest,
    adapter: LoraAdapter,
    fingerprint: str,
) -> None:
    """Write an adapter in the form its library loads: diffusers for pictures, PEFT for text."""
    # Nothing else goes into the header: equal fingerprints are to give equal files.
    notes = {"lorareg.fingerprint": fingerprint}
    if isinstance(manifest, ImageManifest):
        diffusers.write(folder / diffusers.FILE, adapter, notes)
    else:
        peft.write(folder, adapter, public_name(manifest.base), notes)


def _replace_folder(fresh: Path, target: Path) -> None:
    """Put ``fresh`` in the place of ``target``; a kill leaves one of the two, or a missing one."""
    old = fresh.with_name("weights.old")
    shutil.rmtree(old, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _exclusive(run: Path, asset: AssetId) -> Iterator[None]:
    """Refuse two runs of one adapter at a time; the lock dies with its process."""
    run.mkdir(parents=True, exist_ok=True)
    with (run.parent / "running").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LoraregError(
                f"{asset} is being trained by another process",
                why="two runs of one adapter would overwrite each other",
                fix="wait for it, or stop it with Ctrl-C: it can be resumed",
            ) from error
        yield


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a request; a second Ctrl-C stops at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number: int, frame: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
