"""A training in a process that the system gives little memory, and the same with enough.

    python cramped.py FOLDER MEGABYTES

Prints the rungs it came down and the losses of both runs, as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from lorareg.trainers.core.randomness import Draws
from tests.trainers.lines import Lab, Lines

COPIES = 1 << 15  # of each line: tens of megabytes a record, forward and backward


class Large(Lines):
    """Lines that take much memory."""

    def _loss(self, record: str, draws: Draws) -> torch.Tensor:
        points = Draws(4).normal((self.weight(record), 6), record).repeat(COPIES, 1)
        error: torch.Tensor = (self.model(points) - points.flip(1)).square().mean()
        return error * self.weight(record)


def losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row["loss"] for row in map(json.loads, lines) if "loss" in row]


def used() -> int:
    """Bytes of writable memory of this process: what RLIMIT_DATA counts."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[5])
    return pages * resource.getpagesize()


def run(folder: Path, megabytes: Sequence[str]) -> None:
    lab = Lab(folder, task=Large).with_training(batch_size=10, epochs=3)
    cramped, roomy = lab.start("cramped"), lab.start("roomy")
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (used() + int(megabytes[0]) * 1_000_000, hard))
    cursor = cramped.run()
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
    roomy.run()
    found = {"rungs": [rung.model_dump() for rung in cursor.rungs]}
    both = {"cramped": losses(cramped.folder), "roomy": losses(roomy.folder)}
    sys.stdout.write(json.dumps(found | both))


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2:])
