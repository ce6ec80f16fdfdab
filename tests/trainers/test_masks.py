"""Masked loss: masks found, laid over the same part of the picture, and scaled to a mean of 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lorareg.errors import InvalidFileError
from lorareg.registry import dataset, digest
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.digest import DigestCache
from lorareg.registry.image_training import ImageTraining
from lorareg.registry.manifest import ImageManifest
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.data.cuts import Cut
from lorareg.trainers.data.images import ImageRecord
from lorareg.trainers.data.records import read_pictures
from lorareg.trainers.image import loss_masks
from lorareg.trainers.image.inputs import Batch, ImageInputs
from lorareg.trainers.image.pipelines import DiffusionBase
from tests.trainers.pico_images import TRAINING

DRAWS = Draws(1).at("train", 0)


def white_left(size: tuple[int, int], mode: str = "L") -> Image.Image:
    """White in the left half, black in the right one."""
    image = Image.new("L", size, 0)
    image.paste(255, (0, 0, size[0] // 2, size[1]))
    return image.convert(mode)


def write(folder: Path, name: str, image: Image.Image) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def picture(folder: Path, name: str, size: tuple[int, int] = (64, 64)) -> None:
    write(folder, name, Image.linear_gradient("L").resize(size).convert("RGB"))
    text = folder / f"{Path(name).stem}.txt"
    (folder / name).with_name(text.name).write_text("a thing", encoding="utf-8")


def manifest(source: str, **changes: object) -> ImageManifest:
    training = {**TRAINING.model_dump(), "masked_loss": {"source": source, **changes}}
    return ImageManifest.model_validate(
        {
            "schema": "lorareg/1",
            "kind": "character",
            "name": "dot",
            "task": "text-to-image",
            "base": {"model": "builtin:avatar"},
            "dataset": {"path": "data/dots"},
            "train": training,
        }
    )


def read(folder: Path, source: str = "masks") -> list[ImageRecord]:
    listing = dataset.scan(folder, DigestCache(None))
    return read_pictures(folder, manifest(source), listing)


def batch(
    base: ResolvedBase, runtime: Runtime, records: Sequence[ImageRecord], **changes: object
) -> Batch:
    settings = ImageTraining.model_validate(TRAINING.model_dump() | changes)
    found = ImageInputs(DiffusionBase.of(base), records, settings, DigestCache(None))
    found.encode(runtime)
    return found.batch([record.id for record in records], DRAWS)


def test_a_mask_has_the_name_of_its_picture_whatever_the_ending(tmp_path: Path) -> None:
    for name in ("a.jpg", "sub/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture(tmp_path, name)
    write(tmp_path, "masks/a.png", white_left((64, 64)))
    write(tmp_path, "masks/sub/b.webp", white_left((32, 32)))

    found = read(tmp_path)

    assert [record.id for record in found] == ["a.jpg", "sub/b.png"]
    paths = [record.mask.path.relative_to(tmp_path).as_posix() for record in found if record.mask]
    assert paths == ["masks/a.png", "masks/sub/b.webp"]


def test_all_masks_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png", "d.png"):
        picture(tmp_path, name)
    write(tmp_path, "masks/b.png", white_left((64, 64)))
    write(tmp_path, "masks/b.webp", white_left((64, 64)))
    write(tmp_path, "masks/c.png", white_left((64, 48)))
    (tmp_path / "masks/d.png").write_bytes(b"no picture")

    with pytest.raises(InvalidFileError, match="4 masks cannot be used") as caught:
        read(tmp_path)

    why = caught.value.why
    assert "a.png: has no mask masks/a.png" in why
    assert "b.png: has several masks: masks/b.png, masks/b.webp" in why
    assert "masks/c.png: is 64x48, its picture 64x64: another shape" in why
    assert "masks/d.png: it is no JPEG, PNG or WebP picture" in why


@pytest.mark.parametrize("size", [(100, 67), (50, 34), (200, 134), (33, 22)])
def test_a_mask_may_be_of_another_size(tmp_path: Path, size: tuple[int, int]) -> None:
    picture(tmp_path, "a.png", (100, 67))
    write(tmp_path, "masks/a.png", white_left(size))

    (found,) = read(tmp_path)

    assert found.mask


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_mask_is_cut_as_its_picture(mirrored: bool) -> None:
    """What is white in the picture is where its mask weighs, whatever the mask's own size."""
    spots = Image.fromarray(np.random.default_rng(3).integers(0, 256, (9, 13), np.uint8))
    smooth = spots.resize((130, 90), Image.Resampling.BICUBIC)
    cut = Cut.of((130, 90), (64, 64), mirrored=mirrored)
    shown = np.asarray(cut.of_picture(smooth.convert("RGB")).convert("L")).astype(float)

    found = np.asarray(cut.of_mask(smooth.resize((260, 180)), (8, 8)))

    expected = shown.reshape(8, 8, 8, 8).mean(axis=(1, 3))
    assert np.abs(found - expected).max() < 6
    assert np.abs(found - found[:, ::-1]).max() > 30


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "RGBA", "I;16", "P"])
def test_a_mask_is_read_as_grey_in_any_mode(
    tmp_path: Path, pico_sd1: ResolvedBase, runtime: Runtime, mode: str
) -> None:
    picture(tmp_path, "a.png")
    mask = white_left((64, 64), mode if mode != "I;16" else "L")
    if mode == "I;16":
        mask = Image.fromarray(np.asarray(mask).astype(np.uint16) * 257)
    write(tmp_path, "masks/a.png", mask)

    found = batch(pico_sd1, runtime, read(tmp_path), masked_loss={"source": "masks"})

    assert found.mask is not None
    assert found.mask.shape == (1, 1, 8, 8)
    assert torch.equal(found.mask[0, 0, :, :4], torch.full((8, 4), 2.0))
    assert torch.equal(found.mask[0, 0, :, 4:], torch.zeros(8, 4))


def test_the_alpha_channel_is_a_mask_and_an_opaque_picture_counts_fully(
    tmp_path: Path, pico_sd1: ResolvedBase, runtime: Runtime
) -> None:
    picture(tmp_path, "b.png")
    image = Image.new("RGBA", (64, 64), "red")
    image.putalpha(white_left((64, 64)))
    write(tmp_path, "a.png", image)
    (tmp_path / "a.txt").write_text("a thing", encoding="utf-8")

    found = batch(
        pico_sd1, runtime, read(tmp_path, "alpha"), masked_loss={"source": "alpha", "outside": 0.5}
    )

    assert found.mask is not None
    left, right = found.mask[0, 0, :, :4], found.mask[0, 0, :, 4:]
    torch.testing.assert_close(left, torch.full((8, 4), 1 / 0.75))
    torch.testing.assert_close(right, torch.full((8, 4), 0.5 / 0.75))
    assert torch.equal(found.mask[1], torch.ones(1, 8, 8))


def test_no_alpha_channel_anywhere_is_an_error(tmp_path: Path, pico_sd1: ResolvedBase) -> None:
    picture(tmp_path, "a.png")
    settings = ImageTraining.model_validate(TRAINING.model_dump() | {"masked_loss": {}})

    with pytest.raises(InvalidFileError, match="no picture has an alpha channel"):
        ImageInputs(
            DiffusionBase.of(pico_sd1), read(tmp_path, "alpha"), settings, DigestCache(None)
        )


@pytest.mark.parametrize("outside", [0.0, 0.3])
def test_weights_have_a_mean_of_one(outside: float) -> None:
    mask = torch.zeros(1, 8, 8)
    mask[0, 2, 3:5] = torch.tensor([1.0, 0.25])

    found = loss_masks.weights(mask, outside)

    assert float(found.mean()) == pytest.approx(1.0)
    inside, half, beyond = found[0, 2, 3], found[0, 2, 4], found[0, 0, 0]
    assert float(beyond / inside) == pytest.approx(outside)
    assert float(half / inside) == pytest.approx(outside + (1 - outside) * 0.25)


def test_masks_that_show_nothing_are_named_before_a_picture_is_encoded(
    tmp_path: Path, pico_sd1: ResolvedBase, runtime: Runtime
) -> None:
    picture(tmp_path, "a.png", (128, 64))
    picture(tmp_path, "b.png")
    edge = Image.new("L", (128, 64), 0)
    edge.paste(255, (0, 0, 8, 64))  # cut off by the square
    write(tmp_path, "masks/a.png", edge)
    write(tmp_path, "masks/b.png", white_left((64, 64)))

    with pytest.raises(InvalidFileError, match="1 mask is all black") as caught:
        batch(pico_sd1, runtime, read(tmp_path), masked_loss={"source": "masks"})

    assert "a.png" in caught.value.why
    assert "b.png" not in caught.value.why
    assert not (runtime.cache / "latents").exists()


def test_a_painted_over_mask_is_read_again(
    tmp_path: Path, pico_sd1: ResolvedBase, runtime: Runtime
) -> None:
    picture(tmp_path, "a.png")
    write(tmp_path, "masks/a.png", white_left((64, 64)))
    before = batch(pico_sd1, runtime, read(tmp_path), masked_loss={"source": "masks"})

    write(tmp_path, "masks/a.png", Image.new("L", (64, 64), 255))
    after = batch(pico_sd1, runtime, read(tmp_path), masked_loss={"source": "masks"})

    assert before.mask is not None
    assert after.mask is not None
    assert not torch.equal(before.mask, after.mask)
    assert torch.equal(before.clean, after.clean)


def test_a_mirrored_picture_has_its_mask_mirrored(
    tmp_path: Path, pico_sd1: ResolvedBase, runtime: Runtime
) -> None:
    picture(tmp_path, "a.png")
    write(tmp_path, "masks/a.png", white_left((64, 64)))
    settings = ImageTraining.model_validate(
        TRAINING.model_dump() | {"masked_loss": {"source": "masks"}, "flip": True}
    )
    found = ImageInputs(DiffusionBase.of(pico_sd1), read(tmp_path), settings, DigestCache(None))
    found.encode(runtime)

    masks = [found.batch(["a.png"], Draws(1).at("train", step)).mask for step in range(20)]

    lefts = {float(mask[0, 0, 0, 0]) for mask in masks if mask is not None}
    assert lefts == {0.0, 2.0}


def test_masks_count_in_the_digest_of_the_dataset(tmp_path: Path) -> None:
    picture(tmp_path, "a.png")
    write(tmp_path, "masks/a.png", white_left((64, 64)))
    before = dataset.scan(tmp_path, DigestCache(None)).digest

    write(tmp_path, "masks/a.png", Image.new("L", (64, 64), 255))

    assert dataset.scan(tmp_path, DigestCache(None)).digest != before


def test_the_digest_of_a_record_s_mask_is_that_of_its_file(tmp_path: Path) -> None:
    picture(tmp_path, "a.png")
    write(tmp_path, "masks/a.png", white_left((64, 64)))

    (found,) = read(tmp_path)

    assert found.mask
    assert found.mask.sha256 == digest.of_file(found.mask.path)
