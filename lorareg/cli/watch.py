"""How a run looks while it goes: a live bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lorareg.cli.root import err
from lorareg.trainers.watching import StepFacts

PLAIN_SECONDS = 10.0  # between two lines where there is no terminal


class RunWatcher:
    """Tells a person on stderr what a training run does (``trainers.loop.Watcher``)."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[facts]}"),
            console=err,
            disable=not err.is_terminal,
        )
        self._rows: dict[str, object] = {}
        self._said = 0.0

    def __enter__(self) -> RunWatcher:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def stage(self, what: str, done: int, total: int) -> None:
        """Work before the first step."""
        self._advance(what, done, total, "")

    def step(self, facts: StepFacts) -> None:
        """An optimizer step."""
        shown = f"loss {facts.loss:.4f}  lr {facts.rate:.2e}"
        self._advance(self._title, facts.step, facts.total, shown)

    def validated(self, step: int, loss: float, base: float) -> None:
        """A validation."""
        change = f" ({100 * (loss / base - 1):+.1f} % against the base)" if step and base else ""
        self.note(f"step {step}: held-out loss {loss:.4f}{change}")

    def note(self, text: str) -> None:
        """A line that stays."""
        self._bar.console.print(f"  {text}", markup=False)

    def headline(self, text: str) -> None:
        """A new chapter."""
        self._bar.console.print(text, style="bold", markup=False)

    def _advance(self, what: str, done: int, total: int, facts: str) -> None:
        if err.is_terminal:
            row = self._rows.get(what)
            if row is None:
                row = self._rows[what] = self._bar.add_task(what, total=total, facts=facts)
            self._bar.update(row, completed=done, total=total, facts=facts)  # type: ignore[arg-type]
            return
        now = time.monotonic()
        if done == total or now - self._said > PLAIN_SECONDS:
            self._said = now
            err.print(f"  {what}: {done}/{total} {facts}".rstrip(), markup=False)
