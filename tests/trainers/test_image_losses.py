"""The loss of a picture with masks, class pictures and shifted noise: each part by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from lorareg.registry import digest
from lorareg.registry.digest import DigestCache
from lorareg.registry.image_training import ImageTraining
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.data.images import ImageRecord
from lorareg.trainers.image.inputs import Batch
from lorareg.trainers.image.task import ImageTask
from tests.trainers.pico_images import SAMPLING, TRAINING, Case, make_picture

DRAWS = Draws(42).at("train", 3)


def load(case: Case, beside: tuple[ImageRecord, ...] = (), **changes: Any) -> ImageTask:
    settings = ImageTraining.model_validate(TRAINING.model_dump() | changes)
    task = ImageTask(
        case.base, case.pictures, settings, SAMPLING, DigestCache(None), class_pictures=beside
    )
    task.load(case.runtime)
    return task


def errors(task: ImageTask, batch: Batch, offset: float = 0.0) -> torch.Tensor:
    """Squared error of each row at each latent pixel, (R, 4, 8, 8)."""
    ready = task._ready
    clean = batch.clean * ready.scale
    noise = torch.stack(
        [
            DRAWS.normal((4, 8, 8), "noise", key)
            + offset * DRAWS.normal((4, 1, 1), "noise_offset", key)
            for key in batch.keys
        ]
    )
    times = torch.tensor([int(DRAWS.uniform("timestep", key) * 1000) for key in batch.keys])
    noisy = ready.process.noisy(clean, noise, times)
    with torch.no_grad():
        states = task._conditions(batch).texts["text_encoder"]["states"]
        found = ready.denoiser(noisy, times, states).sample
    return (found - noise).square()


@pytest.fixture
def half_hidden(case: Case, tmp_path: Path) -> Case:
    """Two pictures, the right half of the first one transparent."""
    picture = Image.new("RGBA", (40, 40), (200, 30, 30, 255))
    picture.paste((200, 30, 30, 0), (20, 0, 40, 40))
    path = tmp_path / "half.png"
    picture.save(path)
    half = ImageRecord("half.png", path, "a red half", digest.of_file(path))
    return replace(case, pictures=(half, case.pictures[0]))


def test_a_masked_loss_weighs_every_pixel(half_hidden: Case) -> None:
    task = load(half_hidden, masked_loss={"source": "alpha", "outside": 0.1})

    losses = task.losses(task.ids, DRAWS)

    batch = task.inputs.batch(task.ids, DRAWS)
    assert batch.mask is not None
    assert batch.mask[0].std() > 0.5
    expected = (errors(task, batch) * batch.mask).mean(dim=(1, 2, 3))
    torch.testing.assert_close(losses.detach(), expected)


def test_a_class_picture_adds_its_weighed_loss_to_that_of_its_record(
    case: Case, tmp_path: Path
) -> None:
    beside = (make_picture(tmp_path, "class.png", "black", 44),)
    task = load(case, beside, prior={"path": "data/class", "caption": "a disc", "weight": 0.25})
    records = ["03.png", "05.png"]

    losses = task.losses(records, DRAWS)

    batch = task.inputs.batch(records, DRAWS)
    rows = errors(task, batch).mean(dim=(1, 2, 3))
    assert len(rows) == 4
    first, second = (
        sum(rows[i] * batch.weights[i] for i in range(4) if batch.owners[i] == owner)
        for owner in (0, 1)
    )
    torch.testing.assert_close(losses.detach(), torch.stack([first, second]))
    assert sorted(batch.weights.tolist()) == [0.25, 0.25, 1.0, 1.0]


def test_shifted_noise_is_predicted_with_its_shift(case: Case) -> None:
    task = load(case, noise_offset=0.5)

    losses = task.losses(["03.png"], DRAWS)

    batch = task.inputs.batch(["03.png"], DRAWS)
    expected = errors(task, batch, offset=0.5).mean(dim=(1, 2, 3))
    torch.testing.assert_close(losses.detach(), expected)
    assert not torch.allclose(expected, errors(task, batch).mean(dim=(1, 2, 3)))
