"""The one path from a manifest to weights and a lock."""

from __future__ import annotations

import shutil
import threading
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import LoraregError
from lorareg.registry.access import permission
from lorareg.registry.ids import AssetId
from lorareg.registry.lock import TrainedLock
from lorareg.registry.manifest import ImageManifest, TextManifest
from lorareg.registry.workspace import Workspace
from lorareg.trainers import left_off
from lorareg.trainers.adapters import parents
from lorareg.trainers.adapters.parents import Parent
from lorareg.trainers.changes import fingerprint_now
from lorareg.trainers.core import checkpoints
from lorareg.trainers.core.watching import Watcher
from lorareg.trainers.exclusive import exclusive, stop_on_signals, stoppable
from lorareg.trainers.execute import Options, execute
from lorareg.trainers.machine.ranks import Ranks, Unheard
from lorareg.trainers.prepare import prepare
from lorareg.trainers.publish import publish
from lorareg.trainers.report import trackers
from lorareg.trainers.run_folder import run_folder


@dataclass(frozen=True)
class Outcome:
    """What a call of ``train`` did.

    Attributes:
        trained: False if the lock was up to date already.
        run: folder with metrics, curve and samples; None if nothing was trained.
    """

    asset: AssetId
    lock: TrainedLock
    trained: bool
    run: Path | None


def train(workspace: Workspace, asset: AssetId, options: Options, watcher: Watcher) -> Outcome:
    """Train an adapter, or go on with an interrupted run, and write weights, card and lock.

    The lock is written last: until then ``status`` says that the weights are not the lock's.

    Raises:
        LoraregError: bad input, named before a model is loaded.
        InterruptedTrainingError: Ctrl-C or SIGTERM; the run can be resumed.
    """
    if options.restart and options.from_step is not None:
        raise LoraregError("--restart and --from-step contradict each other", fix="choose one")
    ranks = Ranks.current()
    watcher = watcher if ranks.leads else Unheard()
    manifest, file, fingerprint = ranks.leader_first(lambda: _wanted(workspace, asset, options))
    folder = workspace.folder(asset)
    known = workspace.load_lock(asset)
    trained = known if isinstance(known, TrainedLock) else None
    done = trained is not None and trained.fingerprint == fingerprint
    kept = trained and done and not options.anew and workspace.weights_match(folder, trained)
    if ranks.decided(bool(kept)):
        ranks.leave_to_leader()
    if trained and kept:
        return Outcome(asset, trained, trained=False, run=None)
    asked = threading.Event()
    stage = stoppable(watcher.stage, asked)
    prepared = ranks.leader_first(lambda: prepare(workspace, manifest, stage, file))
    if warned := prepared.report.warned:
        watcher.note(f"{prepared.report.dataset}: {warned} (lorareg data check {asset})")
    run = run_folder(workspace, asset, fingerprint)
    with exclusive(run, asset) if ranks.leads else nullcontext(), stop_on_signals(asked) as stop:
        if ranks.leads:
            go_back(run, options, done)
            for line in left_off.notes(workspace, manifest, known, run):
                watcher.note(line)
            trackers.declare(run, trackers.wanted(workspace, manifest))
        made = execute(workspace, prepared, options, run, watcher, stop)
        found = publish(workspace, folder, prepared, made, run)
    return Outcome(asset, found, trained=True, run=run)


def _wanted(
    workspace: Workspace, asset: AssetId, options: Options
) -> tuple[ImageManifest | TextManifest, Parent | None, str]:
    """What is to be trained, the parent if it is a file, and the fingerprint of the run."""
    manifest, file = parents.given(workspace, workspace.load_manifest(asset), options.parent)
    permission.require_training(workspace, manifest)
    return manifest, file, fingerprint_now(workspace, manifest, file.input if file else None)


def go_back(run: Path, options: Options, done: bool) -> None:
    """Forget what a run did after the step that it is to go on from."""
    kept = options.from_step
    if kept is not None:
        checkpoints.roll_back(run / "checkpoints", kept)
    elif options.restart or (options.force and done):
        for name in ("checkpoints", "base-samples"):
            shutil.rmtree(run / name, ignore_errors=True)
        trackers.forget(run)
        kept = 0
    else:
        return
    for sample in (run / "samples").glob("step-*"):
        if int(sample.stem.removeprefix("step-")) > kept:
            sample.unlink()
