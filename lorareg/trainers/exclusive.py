"""One run of an adapter at a time, and how it is asked to stop."""

from __future__ import annotations

import fcntl
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lorareg.errors import InterruptedTrainingError, LoraregError
from lorareg.registry.ids import AssetId

Stage = Callable[[str, int, int], None]


@contextmanager
def exclusive(run: Path, asset: AssetId) -> Iterator[None]:
    """Refuse two runs of one adapter at a time; the lock dies with its process."""
    with _locked(run.parent, asset), alone(run, asset):
        yield


@contextmanager
def alone(run: Path, asset: AssetId) -> Iterator[None]:
    """Refuse a second process in the folder of a run; variants of a sweep may run side by side.

    What a killed process left half-written in the folder is removed: nobody else writes there.
    """
    with _locked(run, asset):
        for half in run.rglob(".*.tmp"):
            half.unlink()
        yield


@contextmanager
def _locked(folder: Path, asset: AssetId) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "running").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LoraregError(
                f"{asset} is being trained by another process",
                why="two runs of one adapter would overwrite each other",
                fix="wait for it, or stop it with Ctrl-C: it can be resumed",
            ) from error
        yield


@contextmanager
def stop_on_signals(asked: threading.Event | None = None) -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a request; a second Ctrl-C stops at once.

    Args:
        asked: is set by the request; by default one of its own.
    """
    event = asked or threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event.is_set
        return

    def ask(number: int, frame: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stoppable(stage: Stage, asked: threading.Event) -> Stage:
    """A stage that stops the work it is told of, such as encoding, once that is asked for.

    Args:
        stage: told what goes on.
        asked: as ``stop_on_signals`` sets it.
    """

    def tell(what: str, done: int, total: int) -> None:
        stage(what, done, total)
        if asked.is_set() and done < total:
            raise InterruptedTrainingError(
                f"stopped {what}, {done} of {total} done",
                why="you asked for it; what is done is kept",
                fix="run the same lorareg train again to go on from here",
            )

    return tell
