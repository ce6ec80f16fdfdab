"""``metrics.jsonl``: one line a step, without gaps or doubles, whatever interrupted the run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorareg.registry.files import write_atomically
from lorareg.trainers.report import trackers


class MetricsLog:
    """An append-only log of a run; its trackers are told the same.

    Args:
        folder: of the run.
        step: the run goes on after this step; later lines, of a run that was cut off after its
            last checkpoint, are dropped because they are about to be written again.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._path = folder / "metrics.jsonl"
        before = read(self._path)
        kept = [row for row in before if row["step"] <= step and step > 0]
        write_atomically(self._path, "".join(f"{json.dumps(row)}\n" for row in kept))
        self._stream = self._path.open("a", encoding="utf-8")
        told = max((row["step"] for row in before), default=-1)
        self._trackers = trackers.start(folder, trackers.History(kept, told))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add one line."""
        self._stream.write(json.dumps({"step": step, **values}) + "\n")
        self._stream.flush()
        for tracker in self._trackers:
            tracker.write(step, values)

    def sync(self) -> None:
        """Make what was written survive a power cut."""
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Flush everything to disk."""
        self._stream.close()
        for tracker in self._trackers:
            tracker.close()


def read(path: Path) -> list[dict[str, Any]]:
    """Every complete line of a metrics file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [row for line in lines if (row := _row(line)) is not None]


def _row(line: str) -> dict[str, Any] | None:
    """What a line says; None for one that a kill cut in the middle."""
    try:
        row = json.loads(line)
        row["step"] = int(row["step"])
    except (ValueError, KeyError, TypeError):
        return None
    return dict(row)
