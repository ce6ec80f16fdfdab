"""Do both concepts survive? The loss says how much, a classifier that knows the truth says what.

    npm ci --prefix tools/samples        # DiceBear, pinned: it draws what the classifier learns
    python -m benchmarks.survival [--modules tools/samples/node_modules] [--seeds 8] [EXPR]

Prints the classifier's accuracy on portraits it never saw, then what it reads off pictures of the
base, of each member alone and of the composition, and the survival that `lorareg compose evaluate`
measures.
"""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image

from benchmarks import survival_reader as reader
from lorareg.registry.expression import Expression
from lorareg.registry.workspace import Workspace
from lorareg.trainers import lineup
from lorareg.trainers.evaluation import measure
from lorareg.trainers.generate import Generator
from lorareg.trainers.report.grid import save_grid
from lorareg.weights import members
from lorareg.weights.members import Composition

EXPRESSION = "style/lorelei-ink:0.8+character/zhangsan:0.9"
FOREIGN = "style/emoji-line"
LOOKS = (
    ("smiling", "white"), ("surprised", "yellow"), ("happy", "blue"), ("sad", "pink"),
    ("serious", "green"), ("laughing", "white"), ("angry", "blue"), ("winking", "yellow"),
)  # fmt: skip
SETS = {
    "in ink": "zzhangsan, portrait, {}, lorelei style, {} background",
    "in a style with clothes": "zzhangsan, portrait, {}, avataaars style, {} background",
}
HEADS = ("lorelei style", "teal hair", "dark clothes", "glasses")
SHOWN = {"style": "lorelei", "hair": "teal", "clothes": "dark", "glasses": "glasses"}


def main() -> None:
    """Train the reader, draw, read, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("expression", nargs="?", default=EXPRESSION)
    parser.add_argument("--modules", type=Path, default=Path("tools/samples/node_modules"))
    parser.add_argument("--seeds", type=int, default=8, help="pictures of each of the 8 prompts")
    parser.add_argument("--sheet", type=Path, help="write the pictures of the first seed here")
    asked = parser.parse_args()
    torch.manual_seed(0)
    model = _reader(asked.modules)
    workspace = Workspace.find()
    composition = members.resolve(workspace, Expression.parse(asked.expression))
    _pictures(workspace, composition, model, asked)
    _losses(workspace, composition)


def _reader(modules: Path) -> torch.nn.Module:
    model = reader.train(reader.draw(600, "learned", modules))
    unseen = reader.draw(100, "unseen", modules)
    right = reader.accuracy(model, unseen)
    said = ", ".join(f"{name} {share:.1%}" for name, share in right.items())
    print(f"reader: right on {len(unseen.images)} unseen real portraits: {said}\n")
    return model


def _pictures(
    workspace: Workspace,
    composition: Composition,
    model: torch.nn.Module,
    asked: Namespace,
) -> None:
    like = composition.components[0].manifest
    generator = Generator(workspace, like, like.sample, "fp32")
    print(f"{composition.expression}, guidance {like.sample.guidance:g}, {like.sample.steps} steps")
    print(f"{8 * asked.seeds} pictures a row: 8 prompts, seeds 0 to {asked.seeds - 1}")
    for title, pattern in SETS.items():
        prompts = [pattern.format(*look) for look in LOOKS]
        print(f"\n| {title} | " + " | ".join(HEADS) + " |")
        print("| --- " + "| ---: " * len(HEADS) + "|")
        rows = []
        for entry in lineup.side_by_side(composition):
            drawn = [
                sample.output
                for seed in range(asked.seeds)
                for sample in generator.samples(entry.composition, prompts, seed)
                if isinstance(sample.output, Image)
            ]
            shares = _shares(model, drawn)
            print(f"| {entry.label} | " + " | ".join(shares) + " |")
            rows.append((entry.label, drawn[: len(prompts)]))
        if asked.sheet:
            name = f"{asked.sheet.stem}-{title.replace(' ', '-')}{asked.sheet.suffix}"
            save_grid(asked.sheet.with_name(name), rows, prompts)


def _shares(model: torch.nn.Module, drawn: Sequence[Image]) -> list[str]:
    images = np.stack([np.asarray(picture.convert("RGB")) for picture in drawn])
    found = reader.read(model, images)
    return [
        f"{np.mean(found[name] == reader.QUESTIONS[name].index(wanted)):.0%}"
        for name, wanted in SHOWN.items()
    ]


def _losses(workspace: Workspace, composition: Composition) -> None:
    def quiet(what: str, done: int, total: int) -> None:
        pass

    foreign = members.resolve(workspace, Expression.parse(f"{FOREIGN}:1"))
    print("\n| member | records | base | solo | composed | survival | a foreign adapter instead |")
    print("| --- |" + " ---: |" * 6)
    pairs = zip(
        composition.components, measure.evaluate(workspace, composition, quiet), strict=True
    )
    for part, found in pairs:
        other = measure.Bench.of(workspace, part, composition, quiet).losses(foreign).mean()
        gain = found.losses["base"] - found.losses["solo"]
        share = (found.losses["base"] - float(other)) / gain
        shown = [f"{found.losses[name]:.4f}" for name in ("base", "solo", "composed")]
        kept = found.survival
        told = f"{kept.value:.2f} ({kept.low:.2f} to {kept.high:.2f})" if kept else "unmeasurable"
        row = [found.ref, str(found.records), *shown, told, f"{share:+.2f} ({FOREIGN})"]
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
