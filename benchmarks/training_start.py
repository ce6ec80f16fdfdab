"""How long ``lorareg train`` takes to its first step, everything cached; or the UNet alone to load.

Run as a module it is one such process, which imports nothing heavy before it is asked for anything
and prints when it got where, in CPU seconds and in seconds since it was started.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

UNET, TRAIN = "unet", "train"
LOADED, BEGINS, ENDS = "UNet alone, loaded", "lorareg, first step begins", "lorareg, it ends"
ASSET = "style/rings"
FILLING = 2  # runs that do not count: the second verifies what the first wrote
MANIFEST = """
schema: lorareg/1
kind: style
name: rings
title: {{en: Rings}}
description: Rings.
task: text-to-image
base: {{model: {base}}}
trigger: rrings
dataset: {{path: data/rings}}
lora: {{rank: 16, alpha: 16, targets: [to_q, to_k, to_v, to_out.0]}}
train:
  {{resolution: {px}, batch_size: 2, epochs: 10, precision: {dtype}, seed: 7,
    validation: {{share: 0}}}}
owners: [lorareg]
license: {{id: CC0-1.0}}
"""
Times = dict[str, tuple[float, float]]
"""CPU seconds and seconds on the clock, by what has been reached."""


def warm_starts(work: Path, px: int, dtype: str, threads: int, rounds: int) -> Times:
    """Medians of some rounds, the processes taking turns."""
    registry = _registry(work, px, dtype)
    given = {UNET: [str(work / "sd15-shaped" / "unet"), dtype], TRAIN: [str(registry)]}
    for _ in range(FILLING):
        for what, arguments in given.items():
            _process(what, arguments, work, threads)
    seen: dict[str, list[tuple[float, float]]] = {}
    for done in range(rounds):
        for what in (UNET, TRAIN) if done % 2 else (TRAIN, UNET):
            for name, times in _process(what, given[what], work, threads).items():
                seen.setdefault(name, []).append(times)
    return {
        name: (statistics.median(cpu), statistics.median(wall))
        for name, rows in seen.items()
        for cpu, wall in (zip(*rows, strict=True),)
    }


def table(found: Times) -> None:
    """Print one line for each thing that is reached, in CPU seconds, on the clock, as multiples."""
    cpu, wall = found[LOADED]
    print("\n| from the start of the process to | CPU s | wall s | of the UNet alone: CPU, wall |")
    print("| --- | --- | --- | --- |")
    for name in (LOADED, BEGINS, ENDS):
        mine, clock = found[name]
        print(f"| {name} | {mine:.1f} | {clock:.1f} | {mine / cpu:.2f}x, {clock / wall:.2f}x |")


def _registry(work: Path, px: int, dtype: str) -> Path:
    from benchmarks.training_base import make_base, make_pictures

    base, folder = make_base(work), work / f"registry-{px}-{dtype}"
    if not (folder / "lorareg.yaml").is_file():
        folder.mkdir(parents=True)
        subprocess.run([sys.executable, "-m", "lorareg", "init", str(folder)], check=True)
    for picture in make_pictures(folder / "data" / "rings"):
        picture.path.with_suffix(".txt").write_text(f"rrings, {picture.caption}")
    manifest = folder / "manifests" / ASSET / "manifest.yaml"
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(MANIFEST.format(base=base.path, px=px, dtype=dtype))
    return folder


def _process(what: str, given: list[str], work: Path, threads: int) -> Times:
    """Run one with all modules compiled, as they are where packages are installed."""
    command = [sys.executable, "-m", "benchmarks.training_start", what, str(time.monotonic())]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [*command, *given],
        env=environment
        | {"OMP_NUM_THREADS": str(threads), "PYTHONPYCACHEPREFIX": str(work / "bytecode")},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: Times = json.loads(done.stdout.strip().rpartition("\n")[2])
    return found


def main() -> None:
    """One process; its arguments are those that ``_process`` gives it."""
    what, started, *given = sys.argv[1:]
    found: Times = {}

    def reached(name: str) -> None:
        found[name] = (time.process_time(), time.monotonic() - float(started))

    _WHAT[what](reached, *given)
    print(json.dumps(found), flush=True)
    os._exit(0)  # as a kill would end it: nothing of the run is kept


def _load(reached: Callable[[str], None], folder: str, dtype: str) -> None:
    import torch
    from diffusers import UNet2DConditionModel

    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    UNet2DConditionModel.from_pretrained(folder, dtype=kind)
    reached(LOADED)


def _train(reached: Callable[[str], None], registry: str) -> None:
    """``lorareg train`` to the end of its first step."""
    from lorareg.cli.app import app
    from lorareg.trainers.core import loop

    step = loop.__dict__["gradient"]

    def watched(*given: Any) -> Any:
        reached(BEGINS)
        found = step(*given)
        reached(ENDS)
        raise _FirstStepDoneError(found)

    loop.__dict__["gradient"] = watched
    os.chdir(registry)
    try:
        app(["train", ASSET, "--force", "--restart"])
    except _FirstStepDoneError:
        return


class _FirstStepDoneError(Exception):
    """Ends a run where the benchmark does."""


_WHAT: dict[str, Callable[..., None]] = {UNET: _load, TRAIN: _train}

if __name__ == "__main__":
    main()
