"""Contestants take turns step by step; what a step, and a whole process, cost."""

from __future__ import annotations

import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch

WARM_UP = 2  # rounds that do not count: kernels are made for the shapes they meet


class Contestant(Protocol):
    """Something that trains."""

    def step(self) -> float:
        """Do one optimizer step; returns its loss."""
        ...


@dataclass
class Course:
    """How one contestant went.

    Attributes:
        cpu, wall: seconds of each step that counts.
        losses: of every step.
    """

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """CPU seconds of the median step."""
        return statistics.median(self.cpu)


def take_turns(contestants: Mapping[str, Contestant], rounds: int) -> dict[str, Course]:
    """One step each in every round, in an order that is shuffled anew."""
    courses = {name: Course() for name in contestants}
    order, shuffle = list(contestants), random.Random(0)
    for done in range(WARM_UP + rounds):
        shuffle.shuffle(order)
        for name in order:
            cpu, wall = time.process_time(), time.perf_counter()
            loss = contestants[name].step()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            courses[name].losses.append(loss)
            if done >= WARM_UP:
                courses[name].cpu.append(cpu)
                courses[name].wall.append(wall)
        _tell(f"round {done + 1} of {WARM_UP + rounds}")
    return courses


def table(courses: Mapping[str, Course], ours: str, amount: float | None = None) -> None:
    """Print one line a contestant: its time, as a multiple of ours, and how its loss went.

    Args:
        courses: of all of them.
        ours: the one that the others are compared with.
        amount: what a step gets through on average, such as tokens.
    """
    per = " tokens a CPU s |" if amount else ""
    print(
        f"| contestant | CPU s a step | wall s |{per} {ours} is faster by | loss | losses apart |"
    )
    print(f"| --- | --- | --- |{' --- |' if amount else ''} --- | --- | --- |")
    for name, course in courses.items():
        apart = max(
            abs(one - other) / abs(other)
            for one, other in zip(course.losses, courses[ours].losses, strict=True)
        )
        speed = f" {amount / course.seconds:.0f} |" if amount else ""
        times = f"{course.seconds / courses[ours].seconds:.2f}x"
        wall = statistics.median(course.wall)
        went = f"{course.losses[0]:.4f} to {course.losses[-1]:.4f}"
        print(
            f"| {name} | {course.seconds:.3f} | {wall:.3f} |{speed} {times} | {went} "
            f"| {apart:.0e} |"
        )


def machine(threads: int) -> None:
    """Name the machine, and what else it was doing."""
    model = re.search(r"model name\s*: (.*)", _read(Path("/proc/cpuinfo")))
    name = model[1] if model else platform.processor() or platform.machine()
    flags = torch.backends.cpu.get_cpu_capability()
    print(
        f"\n{name} ({flags}), {os.cpu_count()} cores, {threads} thread(s), load "
        f"{os.getloadavg()[0]:.1f}, Python {platform.python_version()}, torch {torch.__version__}"
    )


@dataclass(frozen=True)
class Alone:
    """A contestant in a process of its own.

    Attributes:
        ready: CPU seconds from the start of Python to the end of the first step.
        steady, peak: resident memory, GB, after some steps and at most.
    """

    ready: float
    steady: float
    peak: float


def alone(make: Callable[[], Contestant], steps: int) -> None:
    """Run a contestant by itself and print what ``in_processes`` reads."""
    contestant = make()
    contestant.step()
    ready = time.process_time()
    for _ in range(steps - 1):
        contestant.step()
    status = _read(Path("/proc/self/status"))
    steady, peak = (
        int(match[1]) * 1024 / 1e9 if (match := re.search(rf"{key}:\s+(\d+)", status)) else 0.0
        for key in ("VmRSS", "VmHWM")
    )
    print(json.dumps({"ready": ready, "steady": steady, "peak": peak}))


def in_processes(commands: Mapping[str, Sequence[str]]) -> dict[str, Alone]:
    """Run each command of this benchmark in a process of its own, one after the other."""
    found = {}
    for name, arguments in commands.items():
        _tell(f"{name}, alone")
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.training", *arguments],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found[name] = Alone(**json.loads(done.stdout.strip().rpartition("\n")[2]))
    return found


def memory_table(found: Mapping[str, Alone]) -> None:
    """Print one line a process."""
    print("\n| process of its own | CPU s to the end of the first step | steady GB | peak GB |")
    print("| --- | --- | --- | --- |")
    for name, one in found.items():
        print(f"| {name} | {one.ready:.1f} | {one.steady:.2f} | {one.peak:.2f} |")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _tell(text: str) -> None:
    print(f"\r{text}    ", end="", file=sys.stderr, flush=True)
