"""Jobs in several processes: decoding and resizing hold Python's lock too much for threads."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from lorareg.errors import LoraregError
from lorareg.trainers.data.copies.picture import Job, make
from lorareg.trainers.data.copies.provenance import Copy, LeftOut

WORTH_A_PROCESS = 16  # pictures; a process takes as long to start as about five of 2 megapixels


def run(jobs: Sequence[Job], workers: int | None = None) -> Iterator[Copy | LeftOut]:
    """Do jobs, and give their results in their order.

    Args:
        jobs: what to do.
        workers: processes; default one a core, and none besides this one for a few pictures.

    Raises:
        LoraregError: a copy cannot be written, or a process was killed.
    """
    count = workers or max(1, min(_cores(), len(jobs) // WORTH_A_PROCESS))
    if count == 1:
        yield from map(make, jobs)
        return
    # Not forked: the progress bar has a thread, whose locks a forked process would wait on.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_ignore_interrupts)
    try:
        yield from pool.map(make, jobs, chunksize=1)
    except BrokenProcessPool as error:
        raise LoraregError(
            "a process that prepares pictures was killed",
            why="most often because memory ran out: a picture of 100 megapixels takes 1.2 GB",
            fix="close other programs and run the command again; finished copies are kept",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _cores() -> int:
    """Cores that this process may use, which in a container are not all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _ignore_interrupts() -> None:
    """Ctrl-C reaches every process of a terminal; the first one ends the others in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
