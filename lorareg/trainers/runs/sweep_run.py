"""One variant of a sweep: a run with other values, whose result is kept, and which is no asset."""

from __future__ import annotations

import threading
from typing import Any

from lorareg.errors import LoraregError
from lorareg.registry import lock
from lorareg.registry.access import permission
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
from lorareg.trainers.runs.orders import Order
from lorareg.trainers.runs.sweep import RESULT, VariantResult


def train_variant(
    workspace: Workspace, order: Order, options: Options, watcher: Watcher
) -> dict[str, Any]:
    """Train a variant, or go on with one that was interrupted; its folder keeps all there is of it.

    Args:
        workspace: the registry.
        order: the asset whose manifest is varied, and its changes.
        options: how to run.
        watcher: is told.

    Returns:
        What ``result.json`` of the run's folder holds.

    Raises:
        LoraregError: bad input, a manifest or data that changed since the sweep began, or a run
            that cannot go on.
        InterruptedTrainingError: Ctrl-C or SIGTERM; it can be resumed.
    """
    asset, changes = AssetId.parse(order.asset), order.changes or {}
    changed = workspace.changed_manifest(asset, changes)
    manifest, file = parents.given(workspace, changed, options.parent)
    permission.require_training(workspace, manifest)
    fingerprint = fingerprint_now(workspace, manifest, file.input if file else None)
    if order.fingerprint not in (None, fingerprint):
        raise LoraregError(
            f"{asset} was edited while its sweep ran",
            why="this variant would not compare with those before it",
            fix="run the same sweep again: variants that are still the same are kept",
        )
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
