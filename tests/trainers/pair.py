"""Trainings in two processes that exchange tensors through gloo, as a launcher would start them.

    python pair.py FOLDER

Libraries are loaded once. For every line on stdin, a JSON object (``Job``), two children are forked
that train as one; their exit statuses are printed. Child N leaves ``FOLDER/NAME-N.json`` and
``FOLDER/NAME-N.safetensors``, and whatever the loop writes in ``FOLDER/N``.
"""

from __future__ import annotations

import json
import math
import os
import socket
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from lorareg.errors import LoraregError
from lorareg.trainers.core.loop import Loop
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.machine.ranks import Ranks
from tests.trainers.lines import Lab, Lines, told


@dataclass(frozen=True)
class Job:
    """One training of two processes.

    Attributes:
        name: of its files; run: folder of the loop, the same one to go on with it.
        training: settings that are not those of ``lines``.
        stop: which process is asked to stop, and after which step.
        trouble: what happens in the second process alone: "nan", "memory" or "crash".
    """

    name: str
    run: str
    training: dict[str, Any] = field(default_factory=dict)
    stop: tuple[int, int] = (0, -1)
    trouble: str = ""


class Troubled(Lines):
    """Lines that are too much for the second process."""

    trouble = ""

    def losses(
        self, records: Sequence[str], draws: Draws, fixed_round: int | None = None
    ) -> torch.Tensor:
        found = super().losses(records, draws, fixed_round)
        if os.environ["RANK"] == "0" or fixed_round is not None or draws.scope[1] != 3:
            return found
        if self.trouble == "crash":
            raise ArithmeticError("the second process dies")
        if self.trouble == "memory" and len(records) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return found * math.nan if self.trouble == "nan" else found


def train(folder: Path, job: Job) -> None:
    """Train in one of the two processes, and write down what came of it."""
    ranks = Ranks.current()
    task = type("Task", (Troubled,), {"trouble": job.trouble})
    lab = Lab(folder / str(ranks.rank), task=task, ranks=ranks).with_training(**job.training)
    loop = lab.start(job.run, stop=lambda step: list(job.stop) == [ranks.rank, step])
    error, status = "", None
    try:
        loop.run()
    except LoraregError as caught:
        error = str(caught)
    except SystemExit as caught:
        status = caught.code
    write(folder / f"{job.name}-{ranks.rank}", loop, {"error": error, "exit": status})


def write(path: Path, loop: Loop, outcome: dict[str, Any]) -> None:
    cursor = loop.cursor
    facts = {"step": cursor.step, "rungs": [rung.model_dump() for rung in cursor.rungs]}
    facts |= {"notes": told(loop).notes, "best_loss": cursor.best_loss}
    path.with_suffix(".json").write_text(json.dumps(outcome | facts), encoding="utf-8")
    save_file({n: p.detach() for n, p in loop.state.parameters.items()}, f"{path}.safetensors")


def fork(folder: Path, job: Job, rank: int, port: int) -> int:
    """Start one of the two; returns its process id."""
    child = os.fork()
    if child:
        return child
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    try:
        train(folder, job)
        os._exit(0)
    finally:
        traceback.print_exc()
        os._exit(1)


def serve(folder: Path) -> None:
    """Run a job for every line until stdin ends; when one process dies, so does the other."""
    for line in sys.stdin:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        children = [fork(folder, Job(**json.loads(line)), rank, port) for rank in (0, 1)]
        statuses = {}
        while children:
            child, status = os.wait()
            statuses[child] = os.waitstatus_to_exitcode(status)
            children.remove(child)
            if statuses[child]:
                for other in children:
                    os.kill(other, 9)
        sys.stdout.write(json.dumps(list(statuses.values())) + "\n")
        sys.stdout.flush()


def line(job: Job) -> str:
    """A job as the process reads it."""
    return json.dumps(asdict(job)) + "\n"


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
