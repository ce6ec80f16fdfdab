"""Processes that measure pictures, and what happens when one of them dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue

from lorareg.errors import LoraregError
from lorareg.trainers.data.check.worker import READY, broken

AHEAD = 8  # pictures handed to a process at a time, so that it never waits for the next
ATTEMPTS = 2  # processes that may die of a picture before it counts as broken

Outcome = tuple[str, str]  # key of a picture, its line of JSON
Job = tuple[str, Path]


class Worker:
    """One process; started when it is first needed, and again after it died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def answers(self, jobs: list[Job]) -> Iterator[Outcome]:
        """Measure pictures; one that kills two processes is answered as broken.

        Raises:
            LoraregError: the process cannot be started.
        """
        died = 0
        while jobs and not self._stopped:
            process = self._process = self._process or self._started()
            with suppress(BrokenPipeError):
                _send(process, jobs)
            for line in _lines(process, len(jobs)):
                yield jobs.pop(0)[0], line
                died = 0
            if jobs and not self._stopped:
                died += 1
                self._process = None
                if died == ATTEMPTS:
                    yield jobs.pop(0)[0], broken(_death(process.wait()), lasting=False)
                    died = 0

    def stop(self) -> None:
        """End the process, whatever it does."""
        self._stopped = True
        if self._process:
            self._process.kill()

    def close(self) -> None:
        """Wait for the process, whose input ends here."""
        if self._process:
            with suppress(BrokenPipeError):
                self._process.communicate()

    def _started(self) -> subprocess.Popen[bytes]:
        # One thread each: the processes share the cores already. The path is this process's own,
        # since the package need not be installed where Python looks for it.
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        here = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "lorareg.trainers.data.check.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **one, **here},
            )
            if process.stdout and process.stdout.readline() == READY:
                return process
            process.communicate()
            errors.seek(0)
            raise LoraregError(
                "a process that measures pictures cannot be started",
                why=errors.read().decode(errors="replace").strip().rpartition("\n")[2],
                fix="check the installation: lorareg doctor",
            )


@contextmanager
def measuring(pictures: Mapping[str, Path], processes: int) -> Iterator[Iterator[Outcome]]:
    """Measure pictures in processes; on leaving the block, however it ends, none is left.

    Args:
        pictures: key -> path.
        processes: how many.
    """
    jobs = list(pictures.items())
    batches = deque(jobs[start : start + AHEAD] for start in range(0, len(jobs), AHEAD))
    outcomes: SimpleQueue[Outcome | Exception] = SimpleQueue()
    workers = [Worker() for _ in range(processes)]
    threads = [
        threading.Thread(target=_work, args=(worker, batches, outcomes)) for worker in workers
    ]
    for thread in threads:
        thread.start()
    ended = False
    try:
        yield _taken(outcomes, len(jobs))
        ended = True
    finally:
        batches.clear()
        for worker in workers if not ended else ():
            worker.stop()
        for thread in threads:
            thread.join()


def _work(
    worker: Worker, batches: deque[list[Job]], outcomes: SimpleQueue[Outcome | Exception]
) -> None:
    """A thread's life: hand batches to its process until there are none."""
    try:
        with suppress(IndexError):
            while True:
                for outcome in worker.answers(batches.popleft()):
                    outcomes.put(outcome)
    except (LoraregError, OSError) as error:
        outcomes.put(error)
    finally:
        worker.close()


def _taken(outcomes: SimpleQueue[Outcome | Exception], count: int) -> Iterator[Outcome]:
    for _ in range(count):
        outcome = outcomes.get()
        if isinstance(outcome, Exception):
            raise outcome
        yield outcome


def _send(process: subprocess.Popen[bytes], jobs: list[Job]) -> None:
    assert process.stdin
    for _, path in jobs:
        process.stdin.write(json.dumps(str(path)).encode() + b"\n")
    process.stdin.flush()


def _lines(process: subprocess.Popen[bytes], count: int) -> Iterator[str]:
    """Answers, until the last or until the process died; half a line of a dead one is none."""
    assert process.stdout
    for _ in range(count):
        line = process.stdout.readline()
        if not line.endswith(b"\n"):
            return
        yield line.decode()


def _death(status: int) -> str:
    how = f"signal {-status}" if status < 0 else f"exit status {status}"
    memory = ", which memory that runs out also sends" if status == -9 else ""
    return f"the process that decodes it dies of it ({how}{memory})"
