"""Whether what must hold while a release rolls out does hold: metrics of a file, and a command.

A file of the registry names metrics and thresholds only. A command is what the person who steps the
rollout types; nothing that came with the registry is ever run.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lorareg.errors import ExternalToolError, InvalidFileError, LoraregError, NotFoundError
from lorareg.registry import jsontext
from lorareg.registry.files import read_utf8
from lorareg.registry.releases.channels import Guard
from lorareg.registry.schema import check

MAX_BYTES = 16_000_000
WRITTEN = re.compile(r"\s*([^\s<>=]+)\s*(>=|<=)\s*([^\s<>=]+)\s*")


@dataclass(frozen=True)
class Reading:
    """One guard against what was measured.

    Attributes:
        guard: ``face_sim>=0.82``; of a command ``check``, since what is typed may hold secrets.
        value: of the metric; None where there is none that is a finite number.
        threshold: of the metric; None for a command.
        detail: in words.
    """

    guard: str
    holds: bool
    value: float | None
    threshold: float | None
    detail: str

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def parse(text: str) -> Guard:
    """Read a guard as people type it.

    Raises:
        LoraregError: it is none.

    >>> str(parse("face_sim >= 0.82"))
    'face_sim>=0.82'
    """
    found = WRITTEN.fullmatch(text)
    try:
        number = float(found[3]) if found else math.nan
    except ValueError:
        number = math.nan
    if found is None or not math.isfinite(number):
        raise LoraregError(
            f"{text!r} is no guard",
            why="a guard is a metric, >= or <=, and a number",
            fix='--guard "face_sim>=0.82"',
        )
    bound = "min" if found[2] == ">=" else "max"
    document = {"metric": found[1], bound: number}
    return check(Guard, document, f"guard {text!r}", fix='--guard "face_sim>=0.82"')


def read(file: Path) -> dict[str, Any]:
    """The metrics of a JSON file: names and numbers, in objects within objects if you like.

    NaN and infinity can be read: what measured them is told, and no guard holds for them.

    Raises:
        NotFoundError: there is no such file.
        InvalidFileError: it is no JSON object.
    """
    if not file.is_file():
        raise NotFoundError(
            f"there are no metrics in {file}",
            why="there is no such file",
            fix='write one, {"face_sim": 0.9}, and name it: --metrics metrics.json',
        )
    text = read_utf8(file, max_bytes=MAX_BYTES)
    try:
        document = jsontext.parse(text, finite=False)
    except ValueError as error:
        raise InvalidFileError(
            f"{file.name} is not JSON", why=str(error), fix='write metrics as {"face_sim": 0.9}'
        ) from error
    if not isinstance(document, dict):
        raise InvalidFileError(
            f"{file.name} holds no metrics",
            why="it is no JSON object",
            fix='write metrics as {"face_sim": 0.9}',
        )
    return document


def judge(guards: Iterable[Guard], metrics: Mapping[str, Any]) -> list[Reading]:
    """Every guard against the metrics; one whose metric is missing or no number does not hold."""
    return [_judged(guard, _metric(metrics, guard.metric)) for guard in guards]


def run(command: str, folder: Path, seconds: float) -> Reading:
    """Run a command; it holds if it ends with exit status 0 in time. What it says goes to stderr.

    Args:
        command: a program and its arguments, split as a shell would; no shell sees it.
        folder: where it runs.
        seconds: that it has.

    Raises:
        ExternalToolError: it cannot be started, which says nothing about the release.
    """
    try:
        arguments = shlex.split(command)
        process = subprocess.Popen(
            arguments, cwd=folder, stdin=subprocess.DEVNULL, stdout=_stderr(),
            start_new_session=True,
        )  # fmt: skip
    except (OSError, ValueError, IndexError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ExternalToolError(
            f"the check {command!r} cannot be run",
            why=reason or "it names no program",
            fix='give a program and its arguments: --check "python check.py"; for what a shell '
            "does: --check \"sh -c 'a && b'\"",
        ) from error
    try:
        status = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return Reading("check", False, None, None, f"it did not end within {seconds:g} seconds")
    finally:
        _end(process)
    return Reading("check", status == 0, None, None, f"it ended with exit status {status}")


def _stderr() -> int:
    """Where a command's output goes: stdout is for the answer."""
    try:
        return sys.stderr.fileno()
    except (OSError, ValueError):  # a test, or a program without one
        return subprocess.DEVNULL


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command that still runs, with everything that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _judged(guard: Guard, value: float | None) -> Reading:
    low, high = guard.min, guard.max
    threshold = low if low is not None else high
    if value is None:
        return Reading(str(guard), False, None, threshold, f"{guard.metric} was not measured")
    if not math.isfinite(value):
        return Reading(str(guard), False, None, threshold, f"{guard.metric} is {value}")
    holds = value >= low if low is not None else value <= (high or 0.0)
    return Reading(str(guard), holds, value, threshold, f"{guard.metric} is {value:.6g}")


def _metric(metrics: Mapping[str, Any], name: str) -> float | None:
    """By its whole name, else with dots as the way into objects within objects."""
    found: Any = metrics.get(name)
    if name not in metrics:
        found = metrics
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    try:
        return float(found)
    except OverflowError:
        return math.inf
