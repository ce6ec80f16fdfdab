"""Work on many modules at once: one thread a core, one BLAS thread in each.

The matrices are thin: BLAS threads of its own make them slower, many modules at a time make them
faster (LAPACK runs outside the interpreter's lock). Results come in the order of the items and do
not depend on the number of workers, since nothing is added up across modules.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits

MOST = 4  # workers: each holds a module in float64, and the work is a second or two
Item = TypeVar("Item")
Result = TypeVar("Result")


def each(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None
) -> list[Result]:
    """Apply a function to every item.

    Args:
        function: of one module; calls numpy.
        items: modules.
        workers: threads; None means one for every core this process may use, up to ``MOST``.
    """
    with (
        threadpool_limits(limits=1, user_api="blas"),
        ThreadPoolExecutor(workers or min(cores(), MOST)) as pool,
    ):
        return list(pool.map(function, items))


def cores() -> int:
    """Cores that this process may use; all of them where the system cannot tell."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
