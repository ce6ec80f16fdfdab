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

AT_A_TIME = 8  # pictures handed to a process: to speak of each alone takes a tenth of the time
IN_FLIGHT = 2  # such batches, so that a process does not wait for the next one

# One thread each, since the processes share the cores already. Pillow keeps 4 blocks of 16 MB for
# the next picture: given back each time, they cost a page fault every 4 KB, a fifth of the time.
SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PILLOW_BLOCKS_MAX": "4",
}

Outcome = tuple[str, str]  # key of a picture, its line of JSON
Batch = list[tuple[str, Path]]
Said = list[Outcome] | Exception


class Worker:
    """One process; started when it is first needed, and again after it died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._status = 0
        self._stopped = False

    def answers(self, batches: deque[Batch]) -> Iterator[list[Outcome]]:
        """Measure batches until there are none; others may take from them too.

        A picture that the process dies of twice is answered as broken.

        Raises:
            LoraregError: the process cannot be started.
        """
        sent: deque[Batch] = deque()
        while not self._stopped:
            while len(sent) < IN_FLIGHT and (batch := _next(batches)):
                sent.append(batch)
                self._ask(batch)
            if not sent:
                return
            batch = sent.popleft()
            found = self._told(batch)
            if len(found) < len(batch):
                found += self._one_by_one(batch[len(found) :])
                for again in sent:
                    self._ask(again)
            yield found

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

    def _one_by_one(self, jobs: Batch) -> list[Outcome]:
        """After a death: which of them it was."""
        found: list[Outcome] = []
        for job in jobs:
            if self._stopped:
                break
            self._ask([job])
            told = self._told([job])
            found += told or [(job[0], broken(_death(self._status), lasting=False))]
        return found

    def _ask(self, jobs: Batch) -> None:
        process = self._process = self._process or self._started()
        assert process.stdin
        with suppress(BrokenPipeError):  # it died, as reading its answers will show
            process.stdin.write(json.dumps([str(path) for _, path in jobs]).encode() + b"\n")
            process.stdin.flush()

    def _told(self, jobs: Batch) -> list[Outcome]:
        """As many answers as came before the process died."""
        assert self._process
        lines = list(_lines(self._process, len(jobs)))
        if len(lines) < len(jobs):
            self.close()
            self._status, self._process = self._process.returncode, None
        return [(key, line) for (key, _), line in zip(jobs, lines, strict=False)]

    def _started(self) -> subprocess.Popen[bytes]:
        # The path is this process's own: the package need not be installed where Python looks.
        here = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "lorareg.trainers.data.check.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**SETTINGS, **os.environ, **here},
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
    batches = deque(jobs[start : start + AT_A_TIME] for start in range(0, len(jobs), AT_A_TIME))
    count = len(batches)
    outcomes: SimpleQueue[Said] = SimpleQueue()
    workers = [Worker() for _ in range(processes)]
    threads = [
        threading.Thread(target=_work, args=(worker, batches, outcomes)) for worker in workers
    ]
    for thread in threads:
        thread.start()
    ended = False
    try:
        yield _taken(outcomes, count)
        ended = True
    finally:
        batches.clear()
        for worker in workers if not ended else ():
            worker.stop()
        for thread in threads:
            thread.join()


def _work(worker: Worker, batches: deque[Batch], outcomes: SimpleQueue[Said]) -> None:
    """A thread's life."""
    try:
        for found in worker.answers(batches):
            outcomes.put(found)
    except (LoraregError, OSError) as error:
        outcomes.put(error)
    finally:
        worker.close()


def _taken(outcomes: SimpleQueue[Said], batches: int) -> Iterator[Outcome]:
    for _ in range(batches):
        said = outcomes.get()
        if isinstance(said, Exception):
            raise said
        yield from said


def _next(batches: deque[Batch]) -> Batch | None:
    with suppress(IndexError):
        return batches.popleft()
    return None


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
