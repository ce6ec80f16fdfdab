"""``metrics.jsonl``: one line a step, without gaps or doubles, whatever interrupted the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorareg.registry.files import write_atomically


class MetricsLog:
    """An append-only log of a run, and the same values for TensorBoard.

    Args:
        folder: of the run.
        step: the run goes on after this step; later lines, of a run that was cut off after its
            last checkpoint, are dropped because they are about to be written again.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._path = folder / "metrics.jsonl"
        kept = [line for line in _lines(self._path) if _step(line) is not None]
        kept = [line for line in kept if (_step(line) or 0) <= step and step > 0]
        write_atomically(self._path, "".join(f"{line}\n" for line in kept))
        self._stream = self._path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else 0)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add one line."""
        self._stream.write(json.dumps({"step": step, **values}) + "\n")
        self._stream.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush everything to disk."""
        self._stream.close()
        self._board.close()


def read(path: Path) -> list[dict[str, Any]]:
    """Every complete line of a metrics file."""
    return [json.loads(line) for line in _lines(path) if _step(line) is not None]


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _step(line: str) -> int | None:
    """Step of a line; None for one that a kill cut in the middle."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None
