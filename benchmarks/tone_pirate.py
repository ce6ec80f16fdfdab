"""Does ``tone/pirate`` talk like a pirate? Perplexity and marker rate, base against adapter."""

from __future__ import annotations

import math
import re
from pathlib import Path

from lorareg.registry.ids import AssetId
from lorareg.registry.manifest import TextManifest
from lorareg.registry.workspace import Workspace
from lorareg.trainers.adapters import inject
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.data.dialogues import read_dialogues
from lorareg.trainers.machine import runtime
from lorareg.trainers.prepare import resolve_base
from lorareg.trainers.quiet import quiet_libraries
from lorareg.trainers.text.task import TextTask
from lorareg.weights.formats import peft

ASSET = AssetId("tone", "pirate")
HELD_OUT = Path("data/tone_pirate_heldout")


def main() -> None:
    """Print both figures for the base and for the adapter."""
    quiet_libraries()
    workspace = Workspace.find()
    manifest = workspace.load_manifest(ASSET)
    assert isinstance(manifest, TextManifest)
    known = workspace.load_lock(ASSET)
    assert known is not None, "train or pull tone/pirate first"
    place = runtime.choose(known.environment.precision, workspace.cache)
    held_out = workspace.root / HELD_OUT
    task = TextTask(
        resolve_base(workspace, manifest),
        read_dialogues(held_out / "heldout.jsonl"),
        manifest.train,
        manifest.sample.max_new_tokens,
    )
    models = task.load(place)
    questions = (held_out / "questions.txt").read_text(encoding="utf-8").split("\n")
    questions = [line for line in questions if line.strip()]
    marker = _marker((held_out / "markers.txt").read_text(encoding="utf-8").split("\n"))
    adapters = inject.apply(models, peft.read(workspace.folder(ASSET).weights))
    with adapters.disabled():
        _report("base", task, questions, marker)
    _report("tone/pirate", task, questions, marker)


def _report(label: str, task: TextTask, questions: list[str], marker: re.Pattern[str]) -> None:
    import torch

    with torch.no_grad():
        nats = sum(float(task.losses([name], Draws(0), 0).sum()) for name in task.ids)
    perplexity = math.exp(nats / sum(task.weight(name) for name in task.ids))
    replies = [str(sample.output) for sample in task.sample(questions, 0)]
    words = sum(len(reply.split()) for reply in replies)
    found = sum(len(marker.findall(reply)) for reply in replies)
    piratical = sum(bool(marker.search(reply)) for reply in replies)
    print(
        f"{label}: perplexity {perplexity:.2f} on {len(task.ids)} held-out pairs; "
        f"{piratical} of {len(replies)} replies piratical, {found / words:.3f} markers a word"
    )
    for question, reply in list(zip(questions, replies, strict=True))[:5]:
        print(f"    {question}\n      {reply!r}")


def _marker(lines: list[str]) -> re.Pattern[str]:
    phrases = sorted((line.strip() for line in lines if line.strip()), key=len, reverse=True)
    body = "|".join(re.escape(phrase) for phrase in phrases)
    return re.compile(rf"(?<![\w'])(?:{body})(?![\w])", re.IGNORECASE)


if __name__ == "__main__":
    main()
