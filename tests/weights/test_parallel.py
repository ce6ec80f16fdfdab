from __future__ import annotations

import threading
import time

import pytest
from threadpoolctl import threadpool_info

from lorareg.weights import parallel


def test_results_come_in_the_order_of_the_items() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.05 if item == 0 else 0)
        return item * item

    assert parallel.each(slow_first, range(6), workers=3) == [0, 1, 4, 9, 16, 25]


def test_several_items_are_worked_on_at_a_time() -> None:
    met = threading.Barrier(2, timeout=10)

    parallel.each(lambda _: met.wait(), range(2), workers=2)


def test_blas_has_one_thread_in_each_worker() -> None:
    def threads(_: int) -> set[int]:
        return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}

    assert parallel.each(threads, range(2)) == [{1}, {1}]


def test_an_error_of_one_item_is_the_callers() -> None:
    def fail(item: int) -> int:
        return 1 // item

    with pytest.raises(ZeroDivisionError):
        parallel.each(fail, [1, 0])
