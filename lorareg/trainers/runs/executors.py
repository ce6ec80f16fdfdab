"""Where many trainings run: processes of this machine, or tasks of a Ray cluster.

Either way each is a process of its own that does what ``lorareg train REF`` does. They share the
registry's caches, which are keyed by content, and wait for each other at DVC's lock.

Trainings that run side by side share the cores: each gets cores / jobs threads. The number of
threads changes the last bits of float32 sums, so it is recorded in the lock, and ``reproduce``
takes the recorded one.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from lorareg.trainers.runs import ray_cluster
from lorareg.trainers.runs.orders import Order
from lorareg.trainers.runs.processes import Event, Process

STOPPED: Event = {"event": "error", "what": "stopped", "why": "", "fix": "", "stopped": True}


class Executor(Protocol):
    """Runs orders side by side.

    Attributes:
        slots: how many at a time.
    """

    slots: int

    def start(self, number: int, order: Order) -> None:
        """Begin an order; its events carry the number."""
        ...

    def poll(self, seconds: float) -> Sequence[tuple[int, Event]]:
        """What happened, waiting so long for something to happen."""
        ...

    def stop(self) -> None:
        """Ask all that run to save and stop; their last events are still to come."""
        ...

    def close(self) -> None:
        """End at once whatever still runs."""
        ...


class Local:
    """Processes of this machine.

    Args:
        jobs: how many at a time; one alone has all cores.
    """

    def __init__(self, jobs: int | None) -> None:
        self.slots = jobs or 1
        self._threads = None if self.slots == 1 else max(1, _cores() // self.slots)
        self._events: queue.Queue[tuple[int, Event]] = queue.Queue()
        self._running: dict[int, Process] = {}
        self._ears: list[threading.Thread] = []

    def start(self, number: int, order: Order) -> None:
        """Begin an order in a process of its own."""
        known = order.options.get("threads")
        process = Process(order.with_threads(known or self._threads))
        self._running[number] = process
        ear = threading.Thread(target=self._hear, args=(number, process), daemon=True)
        self._ears.append(ear)
        ear.start()

    def poll(self, seconds: float) -> Sequence[tuple[int, Event]]:
        """The next events, or none if nothing happens in time."""
        try:
            found = [self._events.get(timeout=seconds)]
        except queue.Empty:
            return []
        while not self._events.empty():
            found.append(self._events.get())
        return found

    def stop(self) -> None:
        """Let go of every process."""
        for process in list(self._running.values()):
            process.release()

    def close(self) -> None:
        """Kill what still runs, and wait until nothing is left of any process."""
        for process in list(self._running.values()):
            process.kill()
        for ear in self._ears:
            ear.join()

    def _hear(self, number: int, process: Process) -> None:
        for event in process.events():
            if event["event"] in ("done", "error"):
                self._running.pop(number, None)
            self._events.put((number, event))


class OnRay:
    """Tasks of a Ray cluster, each with cores, and a GPU where there are some, to itself.

    A cluster is found through ``RAY_ADDRESS``; without it Ray is started on this machine for as
    long as it takes. Every machine needs lorareg, and the registry at the same path: its caches,
    its runs and its DVC lock are in there.

    Args:
        jobs: how many at a time; None is one a GPU, or one a machine where there is none.
    """

    def __init__(self, jobs: int | None) -> None:
        self._ray = ray_cluster.import_ray()
        self._is_ours = ray_cluster.join(self._ray)
        self.slots, share = ray_cluster.shares(ray_cluster.machines(self._ray), jobs)
        self._threads = None if "num_gpus" in share else int(share["num_cpus"])
        self._task = self._ray.remote(max_retries=0, **share)(_relay)
        self._running: dict[Any, int] = {}

    def start(self, number: int, order: Order) -> None:
        """Hand an order to the cluster."""
        known = order.options.get("threads")
        text = str(order.with_threads(known or self._threads))
        events = self._task.options(num_returns="streaming").remote(text)
        self._running[events] = number

    def poll(self, seconds: float) -> Sequence[tuple[int, Event]]:
        """The next event of every task that has one."""
        if not self._running:
            return []
        running = list(self._running)
        ready, _ = self._ray.wait(running, num_returns=1, timeout=seconds)
        return [found for events in ready for found in self._next(events)]

    def stop(self) -> None:
        """Cancel every task: each lets go of its process and waits until that has saved."""
        for events in self._running:
            self._ray.cancel(events)

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if self._is_ours:
            self._ray.shutdown()

    def _next(self, events: Any) -> Iterator[tuple[int, Event]]:
        number = self._running[events]
        try:
            yield number, self._ray.get(next(events))
        except StopIteration:
            del self._running[events]
        except self._ray.exceptions.TaskCancelledError:
            del self._running[events]
            yield number, STOPPED
        except self._ray.exceptions.RayError as error:
            del self._running[events]
            yield number, _lost(error)


EXECUTORS: Mapping[str, Callable[[int | None], Executor]] = {"local": Local, "ray": OnRay}


def _relay(text: str) -> Iterator[Event]:
    """Body of a Ray task: a process, and what it tells."""
    process = Process(Order.parse(text))
    try:
        yield from process.events()
    finally:  # when it is cancelled too
        process.finish()


def _lost(error: Exception) -> Event:
    return {
        "event": "error",
        "what": "its Ray task was lost",
        "why": ray_cluster.last_words(error),
        "fix": "mend the machine, then run the command again: it goes on from the last checkpoint",
        "stopped": False,
    }


def _cores() -> int:
    """Threads to share: what was asked for, else one a core that this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
