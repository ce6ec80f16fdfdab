"""Whole processes, timed as a person waits for them."""

from __future__ import annotations

import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Took:
    """One run: seconds on the clock, and of the processor."""

    wall: float
    cpu: float


def timed(work: Callable[[], object]) -> Took:
    """What a piece of work takes in this process and in those that it starts."""
    before, began = _used(), time.perf_counter()
    work()
    return Took(time.perf_counter() - began, _used() - before)


def run(command: Sequence[str], folder: Path) -> Took:
    """Run a command in a folder; one that fails ends the benchmark."""
    done: list[subprocess.CompletedProcess[str]] = []

    def work() -> None:
        done.append(
            subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        )

    took = timed(work)
    if done[0].returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done[0].returncode}\n{done[0].stderr}")
    return took


def git(folder: Path, *arguments: str) -> None:
    """Run git in a folder."""
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, stdout=subprocess.DEVNULL)


def say(what: str, took: Sequence[Took], promise: str = "") -> None:
    """Print the medians of several runs."""
    wall = statistics.median(each.wall for each in took)
    cpu = statistics.median(each.cpu for each in took)
    fastest = min(each.wall for each in took)
    tail = f": {promise}" if promise else ""
    print(f"  {what}: {wall:.2f} s (fastest {fastest:.2f} s, CPU {cpu:.2f} s){tail}", flush=True)


def _used() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in both)
