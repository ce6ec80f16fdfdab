"""The one path from a manifest to weights and a lock."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from lorareg.registry.ids import AssetId
from lorareg.registry.lock import Lock
from lorareg.registry.workspace import Workspace
from lorareg.trainers.changes import fingerprint_now
from lorareg.trainers.exclusive import exclusive, stop_on_signals
from lorareg.trainers.execute import Options, execute
from lorareg.trainers.prepare import prepare
from lorareg.trainers.publish import publish
from lorareg.trainers.watching import Watcher


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
    with exclusive(run, asset), stop_on_signals() as stop:
        if options.restart or (options.force and done):
            shutil.rmtree(run / "checkpoints", ignore_errors=True)
        made = execute(workspace, prepared, options, run, watcher, stop)
        found = publish(workspace, folder, prepared, made, run)
    return Outcome(asset, found, trained=True, run=run)
