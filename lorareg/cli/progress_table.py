"""Many trainings at a glance: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lorareg.cli.root import err
from lorareg.cli.screen import PLAIN_SECONDS, Screen
from lorareg.trainers.report.standing import clock_text, sparkline
from lorareg.trainers.runs.many import Row

STYLES = {"done": "green", "failed": "bold red", "stopped": "yellow", "training": "cyan"}
CURVE = 16  # points of a row's sparkline
WIDE = 100  # columns from which on there is room for it
GAP = 2  # columns between two cells
HEADS = ("state", "step", "loss", "held out", "time")


class ProgressTable(Screen):
    """Shows rows whenever they change (``trainers.runs.many.run`` calls it).

    Args:
        what: a row is: "adapter" or "variant".
        console: to draw on; stderr by default.
    """

    def __init__(self, what: str, console: Console = err) -> None:
        super().__init__(console)
        self._what = what
        self._before: Sequence[Row] = ()
        self._said: dict[str, float] = {}

    def __call__(self, rows: Sequence[Row]) -> None:
        """Show the rows as they are now, and every note since the last time."""
        before = {row.name: row for row in self._before}
        for row in rows:
            old = before.get(row.name, Row(row.name))
            for text in row.notes[len(old.notes) :]:
                self._console.print(f"  {row.name}: {text}", markup=False)
            if not self._is_live:
                self._line(old, row)
        self._before = list(rows)
        if self._is_live:
            self._live.update(table(self._what, rows, time.monotonic(), self._console.width))

    def _line(self, old: Row, row: Row) -> None:
        now = time.monotonic()
        moved = row.standing.facts != old.standing.facts
        due = moved and now - self._said.get(row.name, 0.0) > PLAIN_SECONDS
        if row.state != old.state or due:
            self._said[row.name] = now
            _, step, loss, held_out, seconds = cells(row, now)
            words = [row.state, step, loss and f"loss {loss}", held_out and f"held out {held_out}"]
            said = "  ".join(word for word in (*words, seconds) if word)
            self._console.print(f"  {row.name}: {said}", markup=False)


def table(what: str, rows: Sequence[Row], clock: float, width: int) -> Table:
    """The rows as a table that fits the width: names are cut, figures are not."""
    lines = [list(cells(row, clock)) for row in rows]
    heads = list(HEADS)
    if width >= WIDE:
        heads.append("")
        for line, row in zip(lines, rows, strict=True):
            line.append(sparkline(row.standing.losses[-CURVE:]))
    sheet = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    needed = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
    left = width - sum(needed) - GAP * len(needed)
    sheet.add_column(what, no_wrap=True, overflow="ellipsis", max_width=max(8, left))
    for head, wide in zip(heads, needed, strict=True):
        right = head in HEADS[1:]
        sheet.add_column(head, justify="right" if right else "left", no_wrap=True, min_width=wide)
    for row, (state, *rest) in zip(rows, lines, strict=True):
        sheet.add_row(Text(row.name), Text(state, style=STYLES.get(row.state, "")), *rest)
    return sheet


def cells(row: Row, clock: float) -> tuple[str, str, str, str, str]:
    """State, step, loss, held-out loss and time of a row."""
    standing, facts = row.standing, row.standing.facts
    best = standing.best[1] if standing.best else standing.last
    return (
        row.doing or row.state,
        f"{facts.step}/{facts.total}" if facts else "",
        f"{facts.loss:.4f}" if facts else "",
        "" if best is None else f"{best:.4f}",
        clock_text(row.seconds(clock)) if row.began else "",
    )
