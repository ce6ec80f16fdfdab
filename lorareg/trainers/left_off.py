"""What a run that begins anew says of what was there before: why the old weights do not hold."""

from __future__ import annotations

from pathlib import Path

from lorareg.registry.lock import Lock
from lorareg.registry.manifest import ImageManifest, TextManifest
from lorareg.registry.workspace import Workspace
from lorareg.trainers.changes import changed_inputs, config_changes
from lorareg.trainers.core import checkpoints
from lorareg.trainers.report import trackers

SHOWN = 3  # changes that are named; `lorareg status` names all


def notes(
    workspace: Workspace,
    manifest: ImageManifest | TextManifest,
    known: Lock | None,
    run: Path,
) -> list[str]:
    """Sentences for a person whose adapter, or half of one, is not that of these inputs.

    Args:
        workspace: of the registry.
        manifest: that is to be trained.
        known: the lock, if it was trained before.
        run: folder of the run that begins or goes on.
    """
    said = []
    if known and (changed := changed_inputs(workspace, manifest, known)):
        said.append(f"changed since it was trained: {_first(changed)}")
    if not checkpoints.files(run / "checkpoints") and (other := _unfinished(run)):
        folder, step = other
        before, now = trackers.known(folder).config, trackers.flat(manifest.config())
        changed = (config_changes(before, now) if before else []) or ["data, base or parent"]
        said.append(
            f"begins at step 0: a run with other inputs was stopped after step {step} "
            f"({_first(changed)}); with the inputs as they were it goes on"
        )
    return said


def _unfinished(run: Path) -> tuple[Path, int] | None:
    """The run of other inputs that was trained on last, if it was not ended."""
    found = [
        (newest.stat().st_mtime_ns, folder, newest)
        for folder in run.parent.glob("*/")
        if folder != run and (newest := next(iter(checkpoints.files(folder / "checkpoints")), None))
    ]
    if not found:
        return None
    _, folder, newest = max(found)
    cursor = checkpoints.cursor_of(newest)
    return (folder, cursor.step) if cursor and not cursor.finished else None


def _first(changed: list[str]) -> str:
    more = len(changed) - SHOWN
    return "; ".join(changed[:SHOWN]) + (f" and {more} more" if more > 0 else "")
