"""Steps to quality: after how many steps our preset is where diffusers' defaults end.

    python -m benchmarks.quality character/zhangsan style/lorelei-ink

Run in a registry that has these adapters; nothing of it changes. Every contestant is trained by
lorareg's loop, on the same pictures in the same order with the same noise, and is judged by the
same unweighted loss on the same held-out pictures, noise and timesteps. Another seed holds out
others.
"""

from __future__ import annotations

import argparse
import math
import platform
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.training_ours import Ours
from lorareg.registry import dataset, presets, yamlfile
from lorareg.registry.bases import base
from lorareg.registry.ids import AssetId
from lorareg.registry.presets import ImagePreset
from lorareg.registry.workspace import Workspace
from lorareg.trainers.adapters.inject import Adapters
from lorareg.trainers.adapters.peft_layers import weights
from lorareg.trainers.machine import runtime
from lorareg.trainers.machine.probe import Work
from lorareg.trainers.prepare import prepare
from lorareg.trainers.report import metrics

OURS = "lorareg's preset"
SHARE = 0.15  # of the pictures is held out
EVERY = 5  # steps between two looks at our loss

DIFFUSERS: Mapping[str, Any] = {
    "lora.rank": 4,
    "lora.alpha": 4,
    "lora.targets": "attention",
    "train.learning_rate": 1e-4,
    "train.scheduler": "constant",
    "train.warmup_steps": 0,
    "train.caption_dropout": 0.0,
    "train.weight_decay": 0.01,
    "train.max_grad_norm": 1.0,
}
"""Source: diffusers, examples/text_to_image/train_text_to_image_lora.py, its defaults."""


@dataclass(frozen=True)
class Curve:
    """Held-out loss by step; the first is that of the base alone."""

    losses: Mapping[int, float]

    @property
    def steps(self) -> int:
        """How many were taken."""
        return max(self.losses)

    @property
    def final(self) -> float:
        """After the last step."""
        return self.losses[self.steps]

    def reached(self, loss: float) -> float:
        """The first step that is known to be as good; infinite if none is."""
        return min((step for step, found in self.losses.items() if found <= loss), default=math.inf)


@dataclass(frozen=True)
class Race:
    """What all contestants have in common; ``steps`` is about, since epochs are whole."""

    workspace: Workspace
    asset: AssetId
    steps: int
    seed: int

    def run(self, changes: Mapping[str, Any], every: int, *, as_diffusers: bool) -> Curve:
        """Train one contestant in a folder that is thrown away."""
        manifest = self.workspace.changed_manifest(self.asset, {**changes, **self._common(every)})
        ready = prepare(self.workspace, manifest, lambda what, done, total: None)
        work = Work.of(ready.base, manifest.train)
        place = runtime.choose("fp32", self.workspace.cache, 1, None, work)
        with tempfile.TemporaryDirectory() as folder:
            ours = Ours(ready.task, manifest.lora, manifest.train, place, Path(folder))
            if as_diffusers:
                begin_as_diffusers(ours.adapters, self.seed)
            ours.loop.run()
            rows = metrics.read(Path(folder) / "metrics.jsonl")
        return Curve({r["step"]: r["validation_loss"] for r in rows if "validation_loss" in r})

    @property
    def preset(self) -> ImagePreset:
        """What ``lorareg new`` would write for this kind."""
        manifest, here = self.workspace.load_manifest(self.asset), self.workspace
        found = base.resolve(manifest.base, manifest.task, here.root, here.digests)
        return presets.image(self.asset.kind, found)

    def _common(self, every: int) -> dict[str, Any]:
        path = self.workspace.load_manifest(self.asset).dataset.path
        pictures = len(dataset.scan(self.workspace.root / path, self.workspace.digests).images)
        batch = self.preset.batch_size
        per_epoch = math.ceil(round(pictures * (1 - SHARE)) / batch)
        return {
            "train.batch_size": batch,
            "train.epochs": max(1, round(self.steps / per_epoch)),
            "train.seed": self.seed,
            "train.validation": {"share": SHARE, "every_steps": every, "patience": None},
            "sample.prompts": [],
        }


def begin_as_diffusers(adapters: Adapters, seed: int) -> None:
    """Draw the down matrices as ``init_lora_weights="gaussian"`` does: much larger than PEFT's."""
    import torch

    chance = torch.Generator().manual_seed(seed)
    for layer in adapters.layers.values():
        down, _ = weights(layer)
        torch.nn.init.normal_(down, std=1 / len(down), generator=chance)


def contestants(preset: ImagePreset) -> dict[str, dict[str, Any]]:
    """Settings by name; ours last."""
    rate = {"train.learning_rate": preset.learning_rate}
    ours = {
        "lora.rank": preset.rank,
        "lora.alpha": preset.alpha,
        "lora.targets": yamlfile.scalar(preset.targets),
        **rate,
        "train.scheduler": "cosine",
        "train.warmup_steps": preset.warmup_steps,
        "train.caption_dropout": preset.caption_dropout,
    }
    faster = f"diffusers' defaults, rate {preset.learning_rate:g}"
    return {"diffusers' defaults": dict(DIFFUSERS), faster: {**DIFFUSERS, **rate}, OURS: ours}


def compare(workspace: Workspace, asset: AssetId, steps: int, seeds: Sequence[int]) -> None:
    """Train every contestant with every seed, and print the table."""
    curves: dict[str, list[Curve]] = {}
    for seed in seeds:
        race = Race(workspace, asset, steps, seed)
        for name, changes in contestants(race.preset).items():
            mine = name == OURS
            found = race.run(changes, EVERY if mine else steps, as_diffusers=not mine)
            curves.setdefault(name, []).append(found)
            there = [f"{found.reached(c[-1].final):g}" for c in curves.values()] if mine else ()
            after = f", theirs after {' and '.join(there[:-1])} steps" if there else ""
            print(f"seed {seed}, {name}: {found.losses[0]:.4f} -> {found.final:.4f}{after}")
    ours = curves.pop(OURS)
    batch = race.preset.batch_size
    print(f"\n{asset}: {ours[0].steps} steps of {batch} pictures, medians of {len(seeds)} seeds\n")
    print("| contestant | final held-out loss | we are there after | of its steps |")
    print("| --- | --- | --- | --- |")
    for name, theirs in curves.items():
        steps_there = [o.reached(t.final) for o, t in zip(ours, theirs, strict=True)]
        median = statistics.median(steps_there)
        final = statistics.median(one.final for one in theirs)
        ratio = f"{median / theirs[0].steps:.2f}x" if math.isfinite(median) else "not reached"
        print(f"| {name} | {final:.4f} | {median:g} steps | {ratio} |")
    print(f"| {OURS} | {statistics.median(one.final for one in ours):.4f} | | |\n", flush=True)


def main() -> None:
    """Compare on each adapter of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("refs", nargs="+", type=AssetId.parse, metavar="REF")
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    chosen = parser.parse_args()
    print(f"{platform.machine()}, fp32, one thread; every loss by the same function\n", flush=True)
    for asset in chosen.refs:
        compare(Workspace(Path.cwd()), asset, chosen.steps, chosen.seeds)


if __name__ == "__main__":
    main()
