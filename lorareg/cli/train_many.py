"""Training several adapters, each in a process of its own, under one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from lorareg.cli import train_one
from lorareg.cli.progress_table import ProgressTable
from lorareg.cli.root import err, show_error
from lorareg.cli.show import as_json
from lorareg.errors import LoraregError
from lorareg.registry.ids import AssetId
from lorareg.registry.workspace import Workspace
from lorareg.trainers.exclusive import stop_on_signals
from lorareg.trainers.runs.executors import EXECUTORS
from lorareg.trainers.runs.many import Job, Row, jobs_of, run, up_to_date
from lorareg.trainers.runs.orders import Order

INTERRUPTED = 130


def train_assets(
    order: Order,
    assets: Sequence[AssetId],
    where: tuple[str, int | None],
    json: bool,
    *,
    only: bool = False,
) -> None:
    """Train adapters, and say what came out of each.

    Args:
        order: for any of them.
        assets: which.
        where: executor, and how many at a time.
        json: print one JSON document.
        only: one adapter was named: its document stands alone.
    """
    jobs = jobs_of(Workspace(Path(order.root)), assets, order)
    rows = train_many(jobs, "adapter", up_to_date, *where)
    if json:
        documents = [_document(row) for row in rows]
        as_json(documents[0] if only else documents)
    else:
        for row in rows:
            if row.document:
                train_one.show(row.document)
    end(rows)


def train_many(
    jobs: Sequence[Job],
    what: str,
    known: Callable[[Order], Mapping[str, Any] | None],
    executor: str,
    slots: int | None,
) -> list[Row]:
    """Carry jobs out under a table.

    Args:
        jobs: what to train.
        what: a row is: "adapter" or "variant".
        known: what came out of an order earlier, so that nothing is to be done.
        executor: "local" or "ray".
        slots: how many at a time; None leaves it to the executor.
    """
    place = EXECUTORS[executor](slots)  # Ray takes the signals for itself when it starts
    with ProgressTable(what) as table, stop_on_signals() as stop:
        return run(jobs, place, known, table, stop)


def _document(row: Row) -> dict[str, Any]:
    return dict(row.document) if row.document else {"asset": row.name, "error": row.error}


def end(rows: Sequence[Row]) -> None:
    """Show every error, and set the exit status.

    Raises:
        typer.Exit: 2 if one failed, 130 if they were stopped.
    """
    failed = [row for row in rows if row.state == "failed"]
    for row in failed:
        words = row.error or {}
        what = f"{row.name}: {words['what']}"
        show_error(LoraregError(what, why=words["why"], fix=words["fix"]), as_json=False)
    stopped = [row for row in rows if row.state == "stopped"]
    if stopped:
        err.print(f"stopped: {len(stopped)} of {len(rows)}; the same command goes on from here")
    if failed or stopped:
        raise typer.Exit(2 if failed else INTERRUPTED)
