"""One run of an adapter at a time, and how it is asked to stop."""

from __future__ import annotations

import fcntl
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lorareg.errors import LoraregError
from lorareg.registry.ids import AssetId


@contextmanager
def exclusive(run: Path, asset: AssetId) -> Iterator[None]:
    """Refuse two runs of one adapter at a time; the lock dies with its process."""
    run.mkdir(parents=True, exist_ok=True)
    with (run.parent / "running").open("w") as stream:
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
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a request; a second Ctrl-C stops at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number: int, frame: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
