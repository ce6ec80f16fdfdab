"""Samples of a run: the base beside the adapter, pictures or replies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lorareg.registry.base import ResolvedBase
from lorareg.registry.manifest import Lora, Sampling
from lorareg.trainers.data.dialogues import DialogueRecord
from lorareg.trainers.inject import Adapters, inject
from lorareg.trainers.randomness import Draws
from lorareg.trainers.report.grid import MARGIN
from lorareg.trainers.samples import Sampler
from lorareg.trainers.tasks.base import Runtime
from lorareg.trainers.tasks.text import TextTask
from tests.trainers.pico_images import SAMPLING, Case

TWO = SAMPLING.model_copy(update={"prompts": ("a red disc", "a blue disc")})


def move(adapters: Adapters, scale: float) -> None:
    with torch.no_grad():
        for name, parameter in adapters.named_parameters().items():
            parameter.copy_(Draws(5).normal(parameter.shape, name) * scale)


def cells(path: Path, side: int, columns: int, rows: int) -> list[list[np.ndarray]]:
    """The pictures of a grid, row by row."""
    with Image.open(path) as sheet:
        left = sheet.width - columns * (side + MARGIN)
        top = sheet.height - rows * (side + MARGIN)
        places = [
            [(left + x * (side + MARGIN), top + y * (side + MARGIN)) for x in range(columns)]
            for y in range(rows)
        ]
        return [
            [np.asarray(sheet.crop((x, y, x + side, y + side))) for x, y in row] for row in places
        ]


def test_the_preview_shows_the_base_above_the_adapter(case: Case) -> None:
    run = case.start()
    expected = [[np.asarray(sample.output) for sample in run.task.sample(TWO.prompts, TWO.seed)]]
    move(run.adapters, 0.3)
    expected += [[np.asarray(sample.output) for sample in run.task.sample(TWO.prompts, TWO.seed)]]

    replies = Sampler(run.task, run.adapters, TWO, case.folder).final()

    found = cells(case.folder / "preview.png", 128, columns=2, rows=2)
    enlarged = [[np.kron(cell, np.ones((4, 4, 1))) for cell in row] for row in expected]
    assert np.array_equal(found, enlarged)
    assert not np.array_equal(found[0], found[1])
    assert replies == []


def test_samples_of_a_step_are_named_by_it(case: Case) -> None:
    run = case.start()

    Sampler(run.task, run.adapters, TWO, case.folder).keep(20)

    assert [p.name for p in (case.folder / "samples").iterdir()] == ["step-000020.png"]


def test_without_prompts_there_is_nothing_to_show(case: Case) -> None:
    run = case.start()
    sampler = Sampler(run.task, run.adapters, Sampling(), case.folder / "empty")

    sampler.keep(20)

    assert sampler.final() == []
    assert not (case.folder / "empty").exists()


def test_replies_are_kept_as_text_and_handed_back(
    pico_llama: ResolvedBase, dialogues: Sequence[DialogueRecord], runtime: Runtime, tmp_path: Path
) -> None:
    task = TextTask(pico_llama, dialogues, max_length=128)
    task.max_new_tokens = 8
    lora = Lora(rank=4, alpha=4, targets="all-linear")
    adapters = inject(task.load(runtime), dict.fromkeys(task.targets(lora), 4), lora, Draws(1))
    move(adapters, 0.5)
    prompts = ("Who are you?", "Warum schwimmt ein Schiff? ☠")

    sampler = Sampler(task, adapters, Sampling(prompts=prompts), tmp_path)
    replies = sampler.final()
    sampler.keep(3)

    written = json.loads((tmp_path / "preview.json").read_text(encoding="utf-8"))
    step = json.loads((tmp_path / "samples" / "step-000003.json").read_text(encoding="utf-8"))
    assert [reply.prompt for reply in replies] == written["prompts"] == list(prompts)
    assert [reply.base for reply in replies] == written["base"]
    assert [reply.adapter for reply in replies] == written["adapter"] == step["adapter"]
    assert written["base"] != written["adapter"]
