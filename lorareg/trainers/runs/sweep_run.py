"""One variant of a sweep: a run with other values, whose result is kept, and which is no asset."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from lorareg.registry import lock
from lorareg.registry.ids import AssetId
from lorareg.registry.workspace import Workspace
from lorareg.trainers.adapters import parents
from lorareg.trainers.changes import fingerprint_now
from lorareg.trainers.core.watching import Watcher
from lorareg.trainers.exclusive import alone, stop_on_signals, stoppable
from lorareg.trainers.execute import Options, execute
from lorareg.trainers.prepare import prepare
from lorareg.trainers.publish import write_weights
from lorareg.trainers.report import trackers
from lorareg.trainers.run import go_back
from lorareg.trainers.run_folder import run_folder
from lorareg.trainers.runs.sweep import RESULT, VariantResult


def train_variant(
    workspace: Workspace,
    asset: AssetId,
    changes: Mapping[str, Any],
    options: Options,
    watcher: Watcher,
) -> dict[str, Any]:
    """Train a variant, or go on with one that was interrupted; its folder keeps all there is of it.

    Args:
        workspace: the registry.
        asset: whose manifest is varied.
        changes: of the manifest, by dotted key.
        options: how to run.
        watcher: is told.

    Returns:
        What ``result.json`` of the run's folder holds.

    Raises:
        LoraregError: bad input, or a run that cannot go on.
        InterruptedTrainingError: Ctrl-C or SIGTERM; it can be resumed.
    """
    changed = workspace.changed_manifest(asset, changes)
    manifest, file = parents.given(workspace, changed, options.parent)
    fingerprint = fingerprint_now(workspace, manifest, file.input if file else None)
    run = run_folder(workspace, asset, fingerprint)
    asked = threading.Event()
    prepared = prepare(workspace, manifest, stoppable(watcher.stage, asked), file)
    with alone(run, asset), stop_on_signals(asked) as stop:
        go_back(run, options, (run / RESULT).is_file())
        trackers.declare(run, trackers.wanted(workspace, manifest))
        (run / RESULT).unlink(missing_ok=True)
        made = execute(workspace, prepared, options, run, watcher, stop)
        write_weights(run / "weights", manifest, made.adapter, fingerprint)
        result = VariantResult(
            asset=str(asset),
            values=dict(changes),
            fingerprint=fingerprint,
            config=manifest.config(),
            environment=made.environment,
            result=made.result,
            bytes=sum(file.stat().st_size for file in (run / "weights").iterdir()),
        )
        lock.save(run / RESULT, result)
    return result.model_dump(mode="json", by_alias=True)
