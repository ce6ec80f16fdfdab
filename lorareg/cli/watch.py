"""How a run looks while it goes: a live dashboard on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time

from rich.console import Console, Group
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lorareg.cli.dashboard import Dashboard, Usage, speed
from lorareg.cli.root import err
from lorareg.cli.screen import PLAIN_SECONDS, Screen
from lorareg.trainers.core.watching import StepFacts
from lorareg.trainers.report import usage
from lorareg.trainers.report.standing import Standing, clock_text


class RunWatcher(Screen):
    """Tells a person what a training run does (``trainers.core.watching.Watcher``).

    Args:
        title: of the run.
        console: to draw on; stderr by default.
    """

    def __init__(self, title: str, console: Console = err) -> None:
        self._title = title
        self._dashboard = Dashboard(title, Standing(), _usage)
        self._stages = _stage_bars(console)
        self._rows: dict[str, TaskID] = {}
        super().__init__(console, Group(self._stages, self._dashboard))
        self._said = 0.0

    def stage(self, what: str, done: int, total: int) -> None:
        """Work before the first step."""
        if not self._is_live:
            self._line(what, done, total, "")
            return
        row = self._rows.get(what)
        if row is None:
            row = self._rows[what] = self._stages.add_task(what, total=total)
        self._stages.update(row, completed=done, total=total)

    def step(self, facts: StepFacts) -> None:
        """An optimizer step."""
        self._dashboard.standing = standing = self._dashboard.standing.stepped(
            facts, time.monotonic()
        )
        if not self._is_live:
            left = clock_text(standing.seconds_left or 0.0)
            said = f"loss {facts.loss:.4f}  lr {facts.rate:.2e}  {speed(standing)}  {left} left"
            self._line(self._title, facts.step, facts.total, said)
            return
        for row in self._rows.values():
            self._stages.remove_task(row)
        self._rows.clear()

    def validated(self, step: int, loss: float, base: float) -> None:
        """A validation; on a terminal the dashboard shows it."""
        self._dashboard.standing = self._dashboard.standing.validated(step, loss, base)
        if not self._is_live:
            change = (
                f" ({100 * (loss / base - 1):+.1f} % against the base)" if step and base else ""
            )
            self.note(f"step {step}: held-out loss {loss:.4f}{change}")

    def note(self, text: str) -> None:
        """A line that stays."""
        self._console.print(f"  {text}", markup=False)

    def headline(self, text: str) -> None:
        """A new chapter: what the dashboard showed of the one before stays above it."""
        if self._is_live and self._dashboard.standing.facts:
            self._console.print(self._dashboard)
        self._dashboard.standing = Standing()
        self._console.print(text, style="bold", markup=False)

    def _line(self, what: str, done: int, total: int, facts: str) -> None:
        now = time.monotonic()
        if done == total or now - self._said > PLAIN_SECONDS:
            self._said = now
            self._console.print(f"  {what}: {done}/{total} {facts}".rstrip(), markup=False)


def _stage_bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
        console=console,
    )


def _usage() -> Usage:
    return Usage(usage.resident(), usage.on_device())
