"""One training in a process of its own: ``python -m lorareg.trainers.runs.worker ORDER``.

It tells of itself on stdout, a JSON document a line. Its stdin is a leash: nothing is read from it,
but when the other end is closed, whether on purpose or because that process is gone, the run saves
its state and stops, as it does on SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any, TextIO

from lorareg.errors import InterruptedTrainingError, LoraregError
from lorareg.trainers.core.watching import StepFacts
from lorareg.trainers.runs.orders import Order, carry_out

PAUSE = 0.25  # seconds at least between two steps that are told of


class Teller:
    """A watcher that writes events for the process that started this one."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._said = 0.0

    def tell(self, event: str, **facts: Any) -> None:
        """Write one event; where nobody hears it any more the leash is gone too."""
        with suppress(BrokenPipeError):
            self._stream.write(json.dumps({"event": event, **facts}) + "\n")
            self._stream.flush()

    def stage(self, what: str, done: int, total: int) -> None:
        """Work before the first step."""
        if self._is_due(done == total):
            self.tell("stage", what=what, done=done, total=total)

    def step(self, facts: StepFacts) -> None:
        """An optimizer step."""
        if self._is_due(facts.step in (1, facts.total)):
            self.tell("step", **asdict(facts))

    def validated(self, step: int, loss: float, base: float) -> None:
        """A validation."""
        self.tell("validated", step=step, loss=loss, base=base)

    def note(self, text: str) -> None:
        """Something a person should know."""
        self.tell("note", text=text)

    def _is_due(self, matters: bool) -> bool:
        now = time.monotonic()
        if not matters and now - self._said < PAUSE:
            return False
        self._said = now
        return True


def main(text: str) -> int:
    """Carry an order out; returns the exit status."""
    threading.Thread(target=_wait_for_the_leash, daemon=True).start()
    teller = Teller(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)  # what libraries print is no event
    try:
        teller.tell("done", document=carry_out(Order.parse(text), teller))
    except LoraregError as error:
        stopped = isinstance(error, InterruptedTrainingError)
        teller.tell("error", what=error.what, why=error.why, fix=error.fix, stopped=stopped)
        return error.exit_code
    return 0


def _wait_for_the_leash() -> None:
    while os.read(0, 1):
        continue
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
