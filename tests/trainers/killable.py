"""Training as a process of its own, to be killed at any moment.

    python killable.py BASE PICTURES RUN WEIGHTS

Libraries are loaded once. For every line on stdin a child is forked that trains from wherever the
run stands and writes WEIGHTS; its process id is printed, and, when it is gone, its status.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from lorareg.registry import digest
from lorareg.registry.image_training import Buckets
from lorareg.registry.manifest import Lora
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.data.images import ImageRecord
from lorareg.weights.formats import diffusers
from tests.trainers.pico_images import TRAINING, Case, Run, resolve


def read_pictures(folder: Path) -> tuple[ImageRecord, ...]:
    return tuple(
        ImageRecord(file.name, file, f"disc number {file.stem}", digest.of_file(file))
        for file in sorted(folder.glob("*.png"))
    )


def start(base: Path, pictures: Path, run: Path) -> Run:
    """A run that draws on every source of randomness there is."""
    case = Case(
        resolve(base),
        read_pictures(pictures),
        Runtime("cpu", "float32", 1, run.parent / f"cache-{run.name}"),
        run.parent,
        TRAINING.model_copy(
            update={
                "save_steps": 1,
                "caption_dropout": 0.3,
                "gradient_accumulation_steps": 2,
                "ema": 0.8,
                "flip": True,
                "buckets": Buckets(step=8, upscale=True),
            }
        ),
        Lora(rank=4, alpha=8, dropout=0.2),
    )
    return case.start(run.name)


def train(base: Path, pictures: Path, run: Path, weights: Path) -> None:
    """Train to the end and write the adapter."""
    started = start(base, pictures, run)
    started.loop.run()
    diffusers.write(weights, started.adapters.snapshot(), {})


def serve(paths: list[Path]) -> None:
    """Fork a child for every line until stdin ends."""
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                train(*paths)
                os._exit(0)
            finally:
                traceback.print_exc()
                os._exit(1)
        tell(child)
        tell(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def tell(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve([Path(argument) for argument in sys.argv[1:]])
