"""Weights & Biases and MLflow, through the trackers of accelerate.

Whether they talk to a server is their own setting (``WANDB_MODE``, ``MLFLOW_TRACKING_URI``), and so
are their keys; nothing of that is read or written here.
"""

from __future__ import annotations

import logging
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lorareg.errors import LoraregError
from lorareg.trainers.report import trackers
from lorareg.trainers.report.trackers import History, Reporting, Tracker

log = logging.getLogger("lorareg")


class Remote:
    """A tracker of accelerate, told of each value once.

    Args:
        name: of the tracker.
        tracker: of accelerate, started.
        refusals: what its library raises when a server says no; a run goes on without it.
        has: last step that it has of a value; called once for each value.
        arguments: more of its ``log``.
    """

    def __init__(
        self,
        name: str,
        tracker: Any,
        refusals: tuple[type[Exception], ...],
        has: Callable[[str], int],
        arguments: Mapping[str, Any],
    ) -> None:
        self._name = name
        self._tracker: Any | None = tracker
        self._refusals = refusals
        self._has = has
        self._last: dict[str, int] = {}
        self._arguments = arguments

    def catch_up(self, history: History) -> None:
        """Tell it of the rows that it lacks."""
        for row in history.rows:
            self.write(row["step"], {name: row[name] for name in row if name != "step"})

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log the values that it does not have of this step."""
        if self._tracker is None:
            return
        try:
            new = {name: value for name, value in values.items() if step > self._step(name)}
            if new:
                self._tracker.log(new, step=step, **self._arguments)
        except self._refusals as error:
            self._give_up(error)

    def close(self) -> None:
        """Send what is left."""
        if self._tracker is None:
            return
        try:
            self._tracker.finish()
        except self._refusals as error:
            self._give_up(error)

    def _step(self, name: str) -> int:
        if name not in self._last:
            self._last[name] = self._has(name)
        return self._last[name]

    def _give_up(self, error: Exception) -> None:
        log.warning("  %s failed, the run goes on without it: %s", self._name, _first_line(error))
        self._tracker = None


def wandb(folder: Path, reporting: Reporting, history: History) -> Tracker:
    """Weights & Biases: https://docs.wandb.ai/guides/runs/resuming.

    Its history only grows, so no step may come twice. Offline every start writes a part of its own
    that ``wandb sync`` joins to the others, and a kill loses what waits in memory, which may be all
    of it. So parts that were not synced yet are made anew; after those that were, it goes on.
    """
    import wandb as library
    from accelerate.tracking import WandBTracker

    identity = reporting.ids.get("wandb")
    is_synced = _drop_unsynced(folder, identity)
    tracker = WandBTracker(
        reporting.project,
        id=identity or uuid.uuid4().hex[:8],
        name=reporting.title,
        dir=str(folder),
        resume="allow",
        # Not the command line, not the git remote, not what is printed: metrics only.
        settings=library.Settings(
            silent=True, console="off", disable_git=True, disable_code=True, x_disable_meta=True
        ),
    )
    _start("wandb", tracker, (library.errors.Error,), "wandb login, or export WANDB_MODE=offline")
    trackers.remember(folder, "wandb", tracker.tracker.id)
    if identity is None:
        tracker.store_init_configuration(dict(reporting.config))
    told = history.told if is_synced else -1
    if tracker.tracker.resumed:
        told = int(tracker.tracker.starting_step) - 1
    found = Remote("wandb", tracker, (library.errors.Error,), lambda name: told, {})
    found.catch_up(history)
    return found


def mlflow(folder: Path, reporting: Reporting, history: History) -> Tracker:
    """MLflow; without a ``MLFLOW_TRACKING_URI`` a database beside the runs of the registry."""
    import mlflow as library
    import requests
    from accelerate.tracking import MLflowTracker

    database = Path(reporting.shared) / "mlflow.db"
    database.parent.mkdir(parents=True, exist_ok=True)
    library.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{database}")
    for loud in ("mlflow", "alembic"):
        logging.getLogger(loud).setLevel(logging.WARNING)
    refusals = (library.exceptions.MlflowException, requests.RequestException)
    identity = reporting.ids.get("mlflow")
    tracker = MLflowTracker(reporting.project, run_id=identity, run_name=reporting.title)
    fix = "export MLFLOW_TRACKING_URI=http://SERVER:5000, or pip install 'lorareg[mlflow]'"
    _start("mlflow", tracker, refusals, fix)
    run = tracker.tracker.info.run_id
    trackers.remember(folder, "mlflow", run)
    if identity is None:
        tracker.store_init_configuration(dict(reporting.config))

    def has(name: str) -> int:
        if identity is None:
            return -1
        past = library.MlflowClient().get_metric_history(run, name)
        return max((metric.step for metric in past), default=-1)

    found = Remote("mlflow", tracker, refusals, has, {"synchronous": False})
    found.catch_up(history)
    return found


def _drop_unsynced(folder: Path, identity: str | None) -> bool:
    """Remove the offline parts of a run that no server has; returns whether one has some."""
    parts = list((folder / "wandb").glob(f"offline-run-*-{identity}"))
    synced = [part for part in parts if any(part.glob("*.wandb.synced"))]
    for part in parts:
        if part not in synced:
            shutil.rmtree(part)
    return bool(synced)


OPENERS: Mapping[str, Callable[[Path, Reporting, History], Tracker]] = {
    "wandb": wandb,
    "mlflow": mlflow,
}


def _start(name: str, tracker: Any, refusals: tuple[type[Exception], ...], fix: str) -> None:
    from accelerate import PartialState

    PartialState()  # accelerate's trackers log through it
    try:
        tracker.start()
    except refusals as error:
        raise LoraregError(
            f"the tracker {name} does not start",
            why=_first_line(error),
            fix=f"{fix}, or take it out of trackers in lorareg.yaml",
        ) from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
