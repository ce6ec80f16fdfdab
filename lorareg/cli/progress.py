"""How far a transfer is: a bar on a terminal, a line now and then elsewhere; always on stderr."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lorareg.cli.root import err
from lorareg.registry.sharing.meter import Meter, spoken

SECONDS = 5.0  # between two lines where there is no terminal


class Lines:
    """A line when a stretch of work begins to take long, and one at its end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._what, self._size, self._done, self._said = "", 0, 0, 0.0

    def begin(self, what: str, size: int) -> None:
        """A stretch of work of so many bytes begins."""
        self._what, self._size, self._done = what, size, 0
        self._said = time.monotonic()

    def advance(self, size: int) -> None:
        """So many more bytes are done."""
        with self._lock:
            self._done += size
            if time.monotonic() - self._said >= SECONDS:
                self._said = time.monotonic()
                self._say()

    def end(self) -> None:
        """Say what was done, if anything was to do."""
        if self._size:
            self._say()

    def _say(self) -> None:
        err.print(f"{self._what}: {spoken(self._done)} of {spoken(self._size)}", markup=False)


class Bar:
    """A bar with bytes, speed and the time that is left."""

    def __init__(self) -> None:
        from rich import progress

        self._progress = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            console=err,
            transient=True,
        )
        self._task: progress.TaskID | None = None

    def begin(self, what: str, size: int) -> None:
        """A stretch of work of so many bytes begins."""
        if size:
            self._progress.start()
            self._task = self._progress.add_task(what, total=size)

    def advance(self, size: int) -> None:
        """So many more bytes are done."""
        if self._task is not None:
            self._progress.advance(self._task, size)

    def end(self) -> None:
        """Remove the bar."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None

    def close(self) -> None:
        """Give the terminal back."""
        self._progress.stop()


@contextmanager
def shown() -> Iterator[Meter]:
    """A meter that people see."""
    if not err.is_terminal:
        yield Lines()
        return
    bar = Bar()
    try:
        yield bar
    finally:
        bar.close()
