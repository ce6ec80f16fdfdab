"""The other end of ``trainers.runs.worker``: starts it, hears it, lets it go."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from lorareg.trainers.runs.orders import Order

Event = dict[str, Any]


class Process:
    """One training that runs apart from us.

    It is in a session of its own, so that Ctrl-C on a terminal reaches only the command, which then
    asks each training once to save and stop.
    """

    def __init__(self, order: Order) -> None:
        threads = order.options.get("threads")
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
        if threads:
            environment["OMP_NUM_THREADS"] = str(threads)
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  (closed at its end)
        # -P: without it Python would import a registry's own yaml.py from the current folder
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "lorareg.trainers.runs.worker", str(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=environment,
            start_new_session=True,
        )

    def events(self) -> Iterator[Event]:
        """What it tells, to its end; the last event is always ``done`` or ``error``."""
        assert self._process.stdout is not None
        ended = False
        for line in self._process.stdout:
            event = json.loads(line)
            ended = event["event"] in ("done", "error")
            yield event
        status = self._process.wait()
        if not ended:
            yield self._lost(status)
        self._said.close()

    def release(self) -> None:
        """Ask it to save and stop."""
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()

    def finish(self) -> None:
        """Let it go and wait until it has saved; what it still tells is not heard."""
        self.release()
        if self._process.stdout and not self._process.stdout.closed:
            self._process.stdout.read()  # else it would wait for a reader
        self._process.wait()

    def kill(self) -> None:
        """End it at once; it can be resumed from its last checkpoint."""
        self._process.kill()

    def _lost(self, status: int) -> Event:
        """What became of a process that ended without a word."""
        if status == -signal.SIGTERM:
            why = "it was stopped before its first step"
            return {"event": "error", "what": "stopped", "why": why, "fix": "", "stopped": True}
        self._said.seek(0)
        lines = [line.strip() for line in self._said.read().decode("utf-8", "replace").splitlines()]
        words = [line for line in lines if line]
        how = f"signal {-status}" if status < 0 else f"status {status}"
        return {
            "event": "error",
            "what": f"its process ended with {how}",
            "why": words[-1][:300] if words else "it said nothing; perhaps it ran out of memory",
            "fix": "train it alone to see more: lorareg --debug train REF",
            "stopped": False,
        }
