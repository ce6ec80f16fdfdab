"""Many trainings: each in its own process, a few at a time, told of as rows of a table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from lorareg.errors import LoraregError
from lorareg.registry.ids import AssetId
from lorareg.registry.lock import TrainedLock
from lorareg.registry.workspace import Workspace
from lorareg.trainers.changes import fingerprint_now
from lorareg.trainers.core.watching import StepFacts
from lorareg.trainers.report.standing import Standing
from lorareg.trainers.runs.executors import STOPPED, Executor
from lorareg.trainers.runs.orders import Order, document
from lorareg.trainers.runs.processes import Event

POLL = 0.25  # seconds

State = Literal["waiting", "starting", "training", "up to date", "done", "failed", "stopped"]


@dataclass(frozen=True)
class Row:
    """How one of many trainings stands.

    Attributes:
        name: kind/name, or the values of a variant.
        doing: what it does before its first step; notes that it made go into ``notes``.
        began, ended: clock, 0 if it did not yet.
        document: what came out.
        error: what, why and fix.
    """

    name: str
    state: State = "waiting"
    doing: str = ""
    standing: Standing = Standing()
    notes: tuple[str, ...] = ()
    began: float = 0.0
    ended: float = 0.0
    document: Mapping[str, Any] | None = None
    error: Mapping[str, str] | None = None

    def started(self, clock: float) -> Row:
        """Its process begins."""
        return replace(self, state="starting", began=clock)

    def after(self, event: Event, clock: float) -> Row:
        """The row once an event has happened."""
        match event["event"]:
            case "stage":
                doing = f"{event['what']} {event['done']}/{event['total']}"
                return replace(self, doing=doing)
            case "step":
                facts = StepFacts(**{f.name: event[f.name] for f in fields(StepFacts)})
                standing = self.standing.stepped(facts, clock)
                return replace(self, state="training", doing="", standing=standing)
            case "validated":
                seen = (event["step"], event["loss"], event["base"])
                return replace(self, standing=self.standing.validated(*seen))
            case "note":
                return replace(self, notes=(*self.notes, event["text"]))
            case "done":
                return self.finished(event["document"], clock)
            case _:
                words = {key: str(event[key]) for key in ("what", "why", "fix")}
                state: State = "stopped" if event["stopped"] else "failed"
                return replace(self, state=state, doing="", error=words, ended=clock)

    def finished(self, document: Mapping[str, Any], clock: float) -> Row:
        """It came to its end, or had come to it before."""
        state: State = "done" if document.get("trained", True) else "up to date"
        return replace(self, state=state, doing="", document=document, ended=clock)

    def failed(self, error: LoraregError, clock: float) -> Row:
        """It could not even begin."""
        words = {"what": error.what, "why": error.why, "fix": error.fix}
        return replace(self, state="failed", error=words, ended=clock)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("up to date", "done", "failed", "stopped")

    def seconds(self, clock: float) -> float:
        """How long it ran, or has been running."""
        return (self.ended or clock) - self.began if self.began else 0.0


@dataclass(frozen=True)
class Job:
    """An order, what it is called, and which of the other jobs must be over before it begins."""

    name: str
    order: Order
    after: str | None = None


def run(
    jobs: Sequence[Job],
    executor: Executor,
    known: Callable[[Order], Mapping[str, Any] | None],
    tell: Callable[[Sequence[Row]], None],
    stop: Callable[[], bool],
) -> list[Row]:
    """Carry out every job; one that fails does not stop the rest.

    Args:
        jobs: what to train.
        executor: where.
        known: what came out of an order that was carried out before, so that no process is needed;
            asked when its turn comes.
        tell: shown all rows whenever one changes, and now and then.
        stop: asked all the time; True asks all trainings to save and stop, and starts no more.
    """
    rows = [Row(job.name) for job in jobs]
    waiting, running = list(range(len(jobs))), set[int]()
    stopping = False
    try:
        while waiting or running:
            if stop() and not stopping:
                stopping = True
                executor.stop()
                for number in waiting:
                    rows[number] = rows[number].after(STOPPED, time.monotonic())
                waiting.clear()
            while len(running) < executor.slots and (number := _next(waiting, jobs, rows)) >= 0:
                waiting.remove(number)
                rows[number] = _start(rows, jobs, number, known)
                if not rows[number].is_over:
                    executor.start(number, jobs[number].order)
                    running.add(number)
            tell(rows)
            for number, event in executor.poll(POLL) if running else ():
                rows[number] = rows[number].after(event, time.monotonic())
            running -= {number for number in running if rows[number].is_over}
        tell(rows)
    finally:
        executor.close()
    return rows


def jobs_of(workspace: Workspace, assets: Sequence[AssetId], order: Order) -> list[Job]:
    """A job an adapter; one whose parent is trained by the same call waits for it."""
    names = {str(asset) for asset in assets}
    return [
        Job(str(asset), replace(order, asset=str(asset)), _parent(workspace, asset, names))
        for asset in assets
    ]


def up_to_date(order: Order) -> Mapping[str, Any] | None:
    """What the lock says, if training would change nothing.

    Raises:
        LoraregError: the manifest is wrong, or base or data are not there.
    """
    anew = order.options.get("restart") or order.options.get("force")
    if anew or order.options.get("from_step") is not None:
        return None
    workspace, asset = Workspace(Path(order.root)), AssetId.parse(order.asset)
    lock = workspace.load_lock(asset)
    manifest = workspace.load_manifest(asset)
    if not isinstance(lock, TrainedLock) or order.options.get("parent") is not None:
        return None
    if lock.fingerprint != fingerprint_now(workspace, manifest):
        return None
    if not workspace.weights_match(workspace.folder(asset), lock):
        return None
    return document(lock, run=None)


def _start(
    rows: Sequence[Row],
    jobs: Sequence[Job],
    number: int,
    known: Callable[[Order], Mapping[str, Any] | None],
) -> Row:
    """The row of a job whose turn has come: ended, if no process is needed, else started."""
    row, job, clock = rows[number], jobs[number], time.monotonic()
    parent = next((row for row in rows if row.name == job.after), None)
    if parent and parent.state == "failed":
        error = LoraregError(
            f"its parent {parent.name} could not be trained",
            why=(parent.error or {}).get("what", ""),
            fix=f"mend {parent.name}, then run the command again",
        )
        return row.failed(error, clock)
    try:
        document = known(job.order)
    except LoraregError as error:
        return row.failed(error, clock)
    return row.finished(document, clock) if document else row.started(clock)


def _next(waiting: Sequence[int], jobs: Sequence[Job], rows: Sequence[Row]) -> int:
    """The first job that may begin, or -1; a circle of parents is left to say so itself."""
    unfinished = {row.name for row in rows if not row.is_over}
    for number in waiting:
        if jobs[number].after not in unfinished:
            return number
    nothing_runs = all(row.is_over or row.state == "waiting" for row in rows)
    return waiting[0] if waiting and nothing_runs else -1


def _parent(workspace: Workspace, asset: AssetId, names: set[str]) -> str | None:
    try:
        parent = workspace.load_manifest(asset).parent
    except LoraregError:
        return None  # said when its turn comes
    return parent if parent in names and parent != str(asset) else None
