"""Samples of a run: the base beside the adapter, pictures or replies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.manifest import Lora
from lorareg.registry.sampling import Sampling
from lorareg.registry.text_training import TextTraining
from lorareg.trainers.adapters.inject import Adapters, inject
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.data.dialogues import DialogueRecord
from lorareg.trainers.report.grid import MARGIN
from lorareg.trainers.samples import Sampler
from lorareg.trainers.text.task import TextTask
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


def test_samples_of_a_step_are_named_by_it_and_stand_below_the_base(case: Case) -> None:
    run = case.start()
    base = [np.asarray(sample.output) for sample in run.task.sample(TWO.prompts, TWO.seed)]
    move(run.adapters, 0.3)

    Sampler(run.task, run.adapters, TWO, case.folder).keep(20)

    assert [p.name for p in (case.folder / "samples").iterdir()] == ["step-000020.png"]
    above, below = cells(case.folder / "samples" / "step-000020.png", 128, columns=2, rows=2)
    assert np.array_equal(above, [np.kron(cell, np.ones((4, 4, 1))) for cell in base])
    assert not np.array_equal(above, below)


def test_the_base_is_drawn_once_a_run_however_often_it_is_resumed(case: Case) -> None:
    run = case.start()
    move(run.adapters, 0.3)
    Sampler(run.task, run.adapters, TWO, case.folder).keep(20)
    first = cells(case.folder / "samples" / "step-000020.png", 128, columns=2, rows=2)
    kept = sorted((case.folder / "base-samples").rglob("*.png"))
    times = [path.stat().st_mtime_ns for path in kept]
    assert len(kept) == 2

    with torch.no_grad():  # a base that changed would give other pictures, if it were asked
        run.unet.conv_out.weight.mul_(0.0)
    Sampler(run.task, run.adapters, TWO, case.folder).keep(40)
    second = cells(case.folder / "samples" / "step-000040.png", 128, columns=2, rows=2)

    assert np.array_equal(first[0], second[0])
    assert not np.array_equal(first[1], second[1])
    assert [path.stat().st_mtime_ns for path in kept] == times


def test_other_prompts_have_a_base_of_their_own(case: Case) -> None:
    run = case.start()
    Sampler(run.task, run.adapters, TWO, case.folder).keep(20)
    other = TWO.model_copy(update={"prompts": ("a blue disc", "a red disc")})

    Sampler(run.task, run.adapters, other, case.folder).keep(40)

    one, two = (
        cells(case.folder / "samples" / f"step-0000{step}.png", 128, columns=2, rows=2)[0]
        for step in (20, 40)
    )
    assert np.array_equal(one[0], two[1])
    assert np.array_equal(one[1], two[0])


def test_a_base_picture_that_is_damaged_is_drawn_again(case: Case) -> None:
    run = case.start()
    sampler = Sampler(run.task, run.adapters, TWO, case.folder)
    sampler.keep(20)
    before = (case.folder / "samples" / "step-000020.png").read_bytes()
    next((case.folder / "base-samples").rglob("0.png")).write_bytes(b"no picture")

    sampler.keep(40)

    assert (case.folder / "samples" / "step-000040.png").read_bytes() == before


def test_without_prompts_there_is_nothing_to_show(case: Case) -> None:
    run = case.start()
    sampler = Sampler(run.task, run.adapters, Sampling(), case.folder / "empty")

    sampler.keep(20)

    assert sampler.final() == []
    assert not (case.folder / "empty").exists()


def test_replies_are_kept_as_text_and_handed_back(
    pico_llama: ResolvedBase, dialogues: Sequence[DialogueRecord], runtime: Runtime, tmp_path: Path
) -> None:
    task = TextTask(pico_llama, dialogues, TextTraining(max_length=128))
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
    assert written["base"] == step["base"] != written["adapter"]
