"""One training that somebody asked for: plain values, so that another process can carry it out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lorareg.registry.ids import AssetId
from lorareg.registry.lock import TrainedLock
from lorareg.registry.workspace import Workspace
from lorareg.trainers.core.watching import Watcher


@dataclass(frozen=True)
class Order:
    """What to train, and how.

    Attributes:
        root: top of the registry.
        asset: kind/name.
        options: fields of ``trainers.execute.Options``.
        skip_broken: list pictures that cannot be decoded in ``dataset.skip`` and go on.
        changes: of the manifest, by dotted key: a variant of a sweep, which is no asset. None
            trains the asset itself.
        fingerprint: of the variant when the sweep began; another one now is refused.
    """

    root: str
    asset: str
    options: Mapping[str, Any] = field(default_factory=dict)
    skip_broken: bool = False
    changes: Mapping[str, Any] | None = None
    fingerprint: str | None = None

    @classmethod
    def parse(cls, text: str) -> Order:
        """Read what ``str`` wrote."""
        return cls(**json.loads(text))

    def __str__(self) -> str:
        return json.dumps(asdict(self))

    def with_threads(self, threads: int | None) -> Order:
        """The same on so many CPU threads; None takes one a core."""
        return replace(self, options={**self.options, "threads": threads})


def carry_out(order: Order, watcher: Watcher) -> dict[str, Any]:
    """Train in this process, and say in plain values what came out.

    Raises:
        LoraregError: bad input, or a run that cannot go on.
        InterruptedTrainingError: Ctrl-C or SIGTERM; the run can be resumed.
    """
    workspace, asset = Workspace(Path(order.root)), AssetId.parse(order.asset)
    # Imported late: torch and its friends take seconds, and who only hands orders on needs none.
    watcher.note("loading libraries")
    from lorareg.trainers import run
    from lorareg.trainers.execute import Options
    from lorareg.trainers.prepare import BrokenPicturesError
    from lorareg.trainers.runs.sweep_run import train_variant

    options = Options(**order.options)

    def train() -> dict[str, Any]:
        if order.changes is not None:
            return train_variant(workspace, order, options, watcher)
        outcome = run.train(workspace, asset, options, watcher)
        folder = outcome.run.relative_to(workspace.root) if outcome.run else None
        return document(outcome.lock, str(folder) if folder else None)

    try:
        return train()
    except BrokenPicturesError as error:
        if not order.skip_broken:
            raise
        known = workspace.load_manifest(asset).dataset.skip
        workspace.edit_manifest(asset, {"dataset.skip": sorted({*known, *error.names})})
        watcher.note(f"skipping {len(error.names)} broken pictures, listed in dataset.skip")
        return train()


def document(known: TrainedLock, run: str | None) -> dict[str, Any]:
    """What ``lorareg train --json`` prints; ``run`` is None if nothing had to be trained."""
    return {
        "asset": known.asset,
        "trained": run is not None,
        "fingerprint": known.fingerprint,
        "outputs": {name: output.model_dump() for name, output in known.outputs.items()},
        "result": known.result.model_dump(),
        "run": run,
    }
