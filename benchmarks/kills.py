"""SIGKILL at random moments of real ``lorareg train`` processes, against the run nobody killed.

    python -m benchmarks.kills [TRIALS]

Each trial trains a small adapter on ``builtin:avatar`` in a registry of its own. One in four is
killed before the first step, two after any step (the last one too, when the lock is to be written),
one in the middle of writing a checkpoint; half of them twice. Then the run goes on to its end.
Equal means: weights file to the byte, optimizer and average to the bit, every line of the metrics.
"""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image, ImageDraw

from lorareg.registry import digest, yamlfile
from lorareg.registry.ids import AssetId
from lorareg.registry.tensors import tensor_digest
from lorareg.registry.workspace import Workspace

ASSET = AssetId("character", "dot")
SETTINGS = {
    "lora.rank": 4,
    "lora.dropout": 0.1,
    "train.resolution": 64,
    "train.batch_size": 3,
    "train.gradient_accumulation_steps": 2,
    "train.epochs": 6,
    "train.ema": 0.9,
    "train.save_steps": 1,
    "train.precision": "fp32",
    "train.validation.share": 0.2,
    "train.validation.every_steps": 3,
}
TRIALS = 20
SEED = 4


@dataclass(frozen=True)
class Ending:
    """What a finished run left: files of weights, tensors of the last checkpoint, metrics."""

    weights: dict[str, str]
    checkpoint: str
    metrics: str


@dataclass(frozen=True)
class Length:
    """Of a run nobody kills: its steps, seconds before the first one, seconds a step from there."""

    steps: int
    before: float
    step: float


def main() -> None:
    """Train once without a kill, then the trials."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else TRIALS
    moments = random.Random(SEED)
    with tempfile.TemporaryDirectory(prefix="lorareg-kills-") as folder:
        root = Path(folder)
        fresh = make_registry(root / "fresh")
        shutil.copytree(fresh, root / "straight")
        length = measure(root / "straight")
        straight = ending(root / "straight")
        print(
            f"{platform.machine()}, {os.cpu_count()} cores; {length.steps} steps, "
            f"{length.before:.0f} s to the first, {length.step:.1f} s each"
        )
        equal, kills = 0, 0
        for number in range(trials):
            place = root / f"trial-{number}"
            shutil.copytree(fresh, place)
            told = trial(place, number, length, moments)
            same = ending(place) == straight
            equal, kills = equal + same, kills + len(told)
            verdict = "equal" if same else "DIFFERENT"
            print(f"{number + 1:3}  {verdict}  {'; '.join(told)}", flush=True)
            shutil.rmtree(place)
        print(f"{equal} of {trials} equal, {kills} kills")
        sys.exit(equal != trials)


def make_registry(root: Path) -> Path:
    """Fifteen discs and an adapter that is to learn them."""
    lorareg(root.parent, "init", str(root))
    pictures = root / "data" / "dots"
    pictures.mkdir(parents=True)
    lines = []
    for number in range(15):
        picture = Image.new("RGB", (64, 64), "white")
        box = (8, 8, 40 + number, 44 + number % 4)
        ImageDraw.Draw(picture).ellipse(box, fill=("red", "green", "blue")[number % 3])
        picture.save(pictures / f"{number:02}.png")
        lines.append(f'{number:02}.png,"a zdot, number {number}"\n')
    (pictures / "metadata.csv").write_text("".join(lines), encoding="utf-8")
    lorareg(root, "new", str(ASSET), "--data", "data/dots", "--base", "builtin:avatar")
    keys = {name: yamlfile.scalar(str(value)) for name, value in SETTINGS.items()}
    Workspace(root).edit_manifest(ASSET, {**keys, "sample.prompts": []})
    return root


def measure(place: Path) -> Length:
    """Train without a kill."""
    began = time.monotonic()
    process = start(place)
    wait(process, lambda: done(place) > 0)
    first = time.monotonic()
    process.wait()
    steps = done(place)
    return Length(steps, first - began, (time.monotonic() - first) / steps)


def trial(place: Path, number: int, length: Length, moments: random.Random) -> list[str]:
    """Kill one run once or twice, then let it end; says where the kills came."""
    told = []
    for _ in range(moments.choice((1, 2))):
        left, process = length.steps - done(place), start(place)
        if number % 4 == 0:
            after = moments.uniform(0, length.before)
            caught = wait(process, partial(past, time.monotonic() + after))
            what = f"{after:.1f} s after the start"
        elif number % 4 == 3 and left:
            which = length.steps - moments.randrange(left)
            caught = wait(process, partial(writing, place, which))
            what = f"writing checkpoint {which}"
        else:
            step = length.steps - moments.randint(0, left)
            wait(process, partial(reached, place, step))
            after = moments.uniform(0, length.step)
            caught = wait(process, partial(past, time.monotonic() + after))
            what = f"{after:.2f} s after step {step}"
        process.kill()
        process.wait()
        if caught:
            told.append(f"{what}, {done(place)} done")
    if start(place).wait():
        sys.exit(f"the run in {place} could not be ended")
    return told


def wait(process: subprocess.Popen[bytes], moment: Callable[[], bool]) -> bool:
    """Wait for a moment; False if the process ended first."""
    while process.poll() is None:
        if moment():
            return True
        time.sleep(0.0005)
    return False


def reached(place: Path, step: int) -> bool:
    """Whether a step is in the metrics."""
    return done(place) >= step


def past(moment: float) -> bool:
    """Whether a time has come."""
    return time.monotonic() > moment


def writing(place: Path, which: int) -> bool:
    """Whether a checkpoint is being written, and not one of the first few."""
    folders = Workspace(place).runs(ASSET).glob("*/checkpoints")
    names = [entry.name for folder in folders for entry in os.scandir(folder)]
    return any(name.endswith(".tmp") and int(name.split("-")[1][:8]) >= which for name in names)


def done(place: Path) -> int:
    """Optimizer steps that the metrics have."""
    found = [p.read_text(encoding="utf-8") for p in Workspace(place).runs(ASSET).glob("*/*.jsonl")]
    return sum(text.count('"loss"') for text in found)


def ending(place: Path) -> Ending:
    """What a finished run left."""
    workspace = Workspace(place)
    weights = workspace.folder(ASSET).weights
    run = next(path.parent for path in workspace.runs(ASSET).glob("*/metrics.jsonl"))
    metrics = (run / "metrics.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line)["step"] for line in metrics.splitlines() if '"loss"' in line]
    if lines != list(range(1, len(lines) + 1)):
        sys.exit(f"steps of {run}: {lines}")
    return Ending(
        {file.name: digest.of_file(file) for file in sorted(weights.iterdir())},
        tensor_digest(max((run / "checkpoints").iterdir())),
        metrics,
    )


def start(place: Path) -> subprocess.Popen[bytes]:
    """A training as people start it."""
    return subprocess.Popen(
        [sys.executable, "-m", "lorareg", "train", str(ASSET)],
        cwd=place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def lorareg(folder: Path, *arguments: str) -> None:
    """Another command, which has to go well."""
    command = [sys.executable, "-m", "lorareg", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


if __name__ == "__main__":
    main()
