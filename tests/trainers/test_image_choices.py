"""Buckets, flips, tags, masks and class pictures together: they train, and resume to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lorareg.errors import InterruptedTrainingError
from lorareg.registry import digest
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.image_training import Buckets, MaskedLoss, Prior, Tags
from lorareg.trainers.data.images import ImageRecord
from lorareg.trainers.image.task import ImageTask
from lorareg.trainers.report import metrics
from tests.trainers.pico_images import Case, Run

SIZES = [(40, 40), (96, 48), (48, 96), (44, 40), (90, 50), (20, 20), (40, 44)]


def picture(folder: Path, number: int, size: tuple[int, int], caption: str) -> ImageRecord:
    """A gradient whose right half is transparent."""
    image = Image.linear_gradient("L").resize(size).point(lambda v: (v + 30 * number) % 256)
    image.putalpha(Image.new("L", size, 0))
    image.paste(Image.linear_gradient("L").resize(size).convert("LA"), (-size[0] // 2, 0))
    path = folder / f"{number:02d}.png"
    image.save(path)
    return ImageRecord(path.name, path, caption, digest.of_file(path))


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageRecord, ...]:
    folder = tmp_path_factory.mktemp("shapes")
    return tuple(
        picture(folder, number, size, f"zdot, shape {number}, grey, half")
        for number, size in enumerate(SIZES)
    )


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageRecord, ...]:
    folder = tmp_path_factory.mktemp("class")
    return tuple(picture(folder, number, SIZES[number], "a thing") for number in range(3))


@pytest.fixture
def everything(
    case: Case, records: tuple[ImageRecord, ...], beside: tuple[ImageRecord, ...]
) -> Case:
    class Beside(ImageTask):
        def __init__(
            self, base: ResolvedBase, pictures: Sequence[ImageRecord], *rest: Any, **named: Any
        ) -> None:
            super().__init__(base, pictures, *rest, class_pictures=beside, **named)

    return replace(case, pictures=records, kind=Beside).with_training(
        buckets=Buckets(step=8),
        flip=True,
        caption_dropout=0.2,
        tags=Tags(dropout=0.2, variants=4),
        masked_loss=MaskedLoss(outside=0.1),
        prior=Prior(path="data/class", caption="a thing", weight=0.5),
        gradient_accumulation_steps=2,
        epochs=2,
        save_steps=1000,
    )


def weights(run: Run) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in run.loop.state.parameters.items()}


def losses(case: Case, folder: str) -> list[dict[str, Any]]:
    return metrics.read(case.folder / folder / "metrics.jsonl")


def test_a_run_with_every_choice_learns(everything: Case) -> None:
    run = everything.with_training(epochs=8).start()

    run.loop.run()

    found = [
        row["validation_loss"] for row in losses(everything, "run") if "validation_loss" in row
    ]
    assert found[-1] < found[0]
    assert len({run.task.shape(name) for name in run.task.ids}) == 4


@given(st.sets(st.integers(1, 5), min_size=1, max_size=2))
@settings(
    max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
def test_a_run_that_was_stopped_ends_as_the_straight_one(everything: Case, stops: set[int]) -> None:
    straight = everything.start("straight")
    straight.loop.run()
    folder = f"stopped {sorted(stops)}"

    for step in sorted(stops):
        run = everything.start(folder, stop=lambda now, step=step: now == step)  # type: ignore[misc]
        with pytest.raises(InterruptedTrainingError):
            run.loop.run()
    resumed = everything.start(folder)
    resumed.loop.run()

    expected, found = weights(straight), weights(resumed)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert losses(everything, folder) == losses(everything, "straight")
