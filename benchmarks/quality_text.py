"""Steps to quality in dialogue: the presets against PEFT's and TRL's defaults, at equal batch.

A scratch registry gets a tone and some facts, each as ``lorareg new`` writes it and again with the
peers' defaults; ``lorareg train --sweep train.seed=...`` trains both, and held-out loss is read
from the runs. Facts are asked in two ways, so that what is held out was told in other words.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any

import yaml

FACTS, LONGEST = 60, 90  # questions, and characters of one
GOAL = 0.6
WAYS = ("{}", "I have a question for you. {}")
SAME = (
    *("train.epochs=2", "train.validation.share=0.2", "train.validation.patience=null"),
    *("train.validation.every_steps=8", "sample.max_new_tokens=8"),
)
PEER = (
    # PEFT 0.21: LoraConfig's targets for Llama shapes; TRL 1.16: ModelConfig's rank and alpha,
    # SFTConfig's schedule and decay, the learning rate of its LoRA example. PEFT's own rank and
    # alpha, 8 and 8, would scale an update half as much.
    *("lora.rank=16", "lora.alpha=32", "lora.targets=[q_proj, v_proj]", "train.packing=false"),
    *("train.learning_rate=2e-4", "train.scheduler=linear", "train.warmup_steps=0"),
    "train.weight_decay=0.0",
)


@dataclass(frozen=True)
class Course:
    """Held-out loss of one run.

    Attributes:
        base: of the base alone, nats a token.
        losses: step -> nats a token.
    """

    base: float
    losses: dict[int, float]

    @property
    def end(self) -> float:
        """The loss it ends with."""
        return self.losses[max(self.losses)]

    def reaches(self, loss: float) -> int | None:
        """The first step with a loss as low as this."""
        return next((step for step, found in self.losses.items() if found <= loss), None)


def main() -> None:
    """Print one line a kind and seed, then the median of the steps' ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", nargs="+", choices=["tone", "knowledge"], default=[*SOURCES])
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--work", type=Path, help="keep the registry and its runs here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        registry = arguments.work or Path(scratch)
        _make(registry)
        print("| kind, seed | base alone | peer ends at, in steps | preset there after | ratio |")
        print("| --- | --- | --- | --- | --- |")
        for kind in arguments.kind:
            _compare(registry, kind, arguments.seeds)


def _compare(registry: Path, kind: str, seeds: str) -> None:
    preset = _courses(registry, f"{kind}/preset", SAME, seeds)
    peer = _courses(registry, f"{kind}/peer", (*PEER, *SAME), seeds)
    ratios = []
    for seed, theirs in peer.items():
        steps, reached = max(theirs.losses), preset[seed].reaches(theirs.end)
        ratios.append(reached / steps if reached else float("inf"))
        print(
            f"| {kind}, {seed} | {theirs.base:.3f} | {theirs.end:.3f}, {steps} | {reached} "
            f"| {ratios[-1]:.2f} |"
        )
    verdict = "reached" if median(ratios) <= GOAL else "missed"
    print(f"| {kind}, median | | | | {median(ratios):.2f}, goal {GOAL} {verdict} |", flush=True)


def _courses(registry: Path, ref: str, changes: Sequence[str], seeds: str) -> dict[int, Course]:
    """Train one variant a seed by the product's own command."""
    given = [part for change in changes for part in ("--set", change)]
    sweep = ["train", ref, *given, "--sweep", f"train.seed={seeds}", "--json"]
    found = {}
    for one in json.loads(_lorareg(registry, *sweep))["variants"]:
        runs = registry / ".lorareg" / "runs" / ref
        folder = runs / one["fingerprint"].partition(":")[2][:16]
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").open(encoding="utf-8")]
        losses = {row["step"]: row["validation_loss"] for row in rows if "validation_loss" in row}
        base = one["result"]["base_validation_loss"]
        found[one["values"]["train.seed"]] = Course(base, losses)
    return found


def _make(registry: Path) -> None:
    """The registry with both kinds, twice each; one that is there stays."""
    registry.mkdir(parents=True, exist_ok=True)
    _lorareg(registry, "init")
    (registry / "data").mkdir(exist_ok=True)
    for kind, rows in SOURCES.items():
        data = f"data/{kind}.jsonl"
        if not (registry / data).exists():
            (registry / data).write_text(rows(), encoding="utf-8")
        for name in ("preset", "peer"):
            if not (registry / "manifests" / kind / name).exists():
                _lorareg(registry, "new", f"{kind}/{name}", "--data", data)


def _tone() -> str:
    return Path("data/tone_pirate/train.jsonl").read_text(encoding="utf-8")


def _facts() -> str:
    """Questions of general knowledge from chatterbot-corpus (BSD-3-Clause), asked in two ways."""
    text = files("chatterbot_corpus").joinpath("data/english/trivia.yml").read_text("utf-8")
    pairs = [pair for pair in yaml.safe_load(text)["conversations"] if len(pair) == 2]
    short = [pair for pair in pairs if len(pair[0]) <= LONGEST and pair[0].endswith("?")]
    return "".join(
        json.dumps({"messages": [_said("user", way.format(asked)), _said("assistant", answer)]})
        + "\n"
        for asked, answer in short[:FACTS]
        for way in WAYS
    )


def _said(role: str, text: Any) -> dict[str, str]:
    return {"role": role, "content": str(text).strip()}


def _lorareg(registry: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "lorareg", *arguments]
    return subprocess.run(
        command, cwd=registry, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


SOURCES = {"tone": _tone, "knowledge": _facts}

if __name__ == "__main__":
    main()
