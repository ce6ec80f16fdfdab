"""Prior preservation: a class picture beside each record, of its shape, drawn by its step."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from lorareg.errors import InvalidFileError, NotFoundError
from lorareg.registry import dataset, digest
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.digest import DigestCache
from lorareg.registry.image_training import ImageTraining
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.data import class_pictures, undecodable
from lorareg.trainers.data.images import ImageRecord
from lorareg.trainers.image.inputs import ImageInputs
from lorareg.trainers.image.pipelines import DiffusionBase
from lorareg.trainers.image.task import ImageTask
from tests.trainers.pico_images import SAMPLING, TRAINING

PRIOR = {"path": "data/class", "caption": "a disc", "weight": 0.25}
STEPS = [Draws(1).at("train", step) for step in range(40)]


def picture(
    folder: Path, name: str, size: tuple[int, int] = (40, 40), text: str = "x"
) -> ImageRecord:
    folder.mkdir(exist_ok=True)
    shade = sum(map(ord, name)) % 256
    Image.linear_gradient("L").resize(size).point(lambda v: (v + shade) % 256).convert("RGB").save(
        folder / name
    )
    return ImageRecord(name, folder / name, text, digest.of_file(folder / name))


def read(folder: Path) -> list[ImageRecord]:
    return class_pictures.read(folder, dataset.scan(folder, DigestCache(None)).files, "a person")


def settings(**changes: Any) -> ImageTraining:
    return ImageTraining.model_validate(TRAINING.model_dump() | {"prior": PRIOR} | changes)


def make(
    base: ResolvedBase,
    runtime: Runtime,
    records: list[ImageRecord],
    beside: list[ImageRecord],
    **changes: Any,
) -> ImageInputs:
    found = ImageInputs(
        DiffusionBase.of(base), records, settings(**changes), DigestCache(None),
        class_pictures=beside,
    )  # fmt: skip
    found.encode(runtime)
    return found


def test_class_pictures_without_captions_get_that_of_the_class(tmp_path: Path) -> None:
    picture(tmp_path, "a.png")
    picture(tmp_path, "b.png")
    (tmp_path / "b.txt").write_text(" an old man \n", encoding="utf-8")

    assert [record.caption for record in read(tmp_path)] == ["a person", "an old man"]


def test_a_class_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none", encoding="utf-8")

    with pytest.raises(NotFoundError, match="has no picture") as caught:
        read(tmp_path)

    assert "train.prior" in caught.value.fix


def test_captions_of_class_pictures_that_are_not_there_are_named(tmp_path: Path) -> None:
    picture(tmp_path, "a.png")
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,one\nz.png,two\n")

    with pytest.raises(InvalidFileError, match="1 captions without their pictures") as caught:
        read(tmp_path)

    assert "z.png" in caught.value.why


def test_class_pictures_and_masks_that_cannot_be_decoded_are_all_named(tmp_path: Path) -> None:
    whole, broken = picture(tmp_path, "a.png"), picture(tmp_path, "b.png")
    data = broken.path.read_bytes()[:-40]
    broken.path.write_bytes(data)
    cut = ImageRecord("b.png", broken.path, "x", digest.of_bytes(data))
    told: list[tuple[str, int, int]] = []

    with pytest.raises(InvalidFileError, match="1 class pictures or masks") as caught:
        undecodable.refuse([], [whole, cut], tmp_path / "cache", lambda *at: told.append(at))

    assert "class picture b.png" in caught.value.why
    assert told[-1] == ("checking class pictures and masks", 2, 2)


def test_every_record_has_a_class_picture_beside_it(
    tmp_path: Path, pico_sd1: ResolvedBase, runtime: Runtime
) -> None:
    records = [picture(tmp_path / "data", f"{n}.png") for n in range(3)]
    beside = [picture(tmp_path / "class", f"{n}.png", text=f"class {n}") for n in range(4)]
    found = make(pico_sd1, runtime, records, beside)

    batch = found.batch(["0.png", "2.png"], STEPS[0])

    assert batch.keys[:2] == ["0.png", "2.png"]
    assert len(set(batch.keys)) == 4
    assert batch.owners == [0, 1, 0, 1]
    assert batch.weights.tolist() == [1, 1, 0.25, 0.25]
    assert batch.texts[:2] == ["x", "x"]
    assert all(text.startswith("class ") for text in batch.texts[2:])
    assert batch.clean.shape == (4, 4, 8, 8)
    assert found.ids == ["0.png", "1.png", "2.png"]


def test_class_pictures_are_drawn_anew_in_every_step_and_the_same_in_every_run(
    tmp_path: Path, pico_sd1: ResolvedBase, runtime: Runtime
) -> None:
    records = [picture(tmp_path / "data", "0.png"), picture(tmp_path / "data", "1.png")]
    beside = [picture(tmp_path / "class", f"{n}.png", text=f"class {n}") for n in range(4)]
    found = make(pico_sd1, runtime, records, beside)

    drawn = [found.batch(["0.png", "1.png"], draws).texts[2:] for draws in STEPS]

    again = [found.batch(["0.png", "1.png"], draws).texts[2:] for draws in STEPS]
    assert drawn == again
    counts = Counter(text for texts in drawn for text in texts)
    assert set(counts) == {"class 0", "class 1", "class 2", "class 3"}
    assert any(first != second for first, second in drawn)


def test_a_class_caption_is_never_dropped_nor_shuffled(
    tmp_path: Path, pico_sd1: ResolvedBase, runtime: Runtime
) -> None:
    records = [picture(tmp_path / "data", "0.png", text="z, one, two")]
    beside = [picture(tmp_path / "class", "c.png", text="a, b, c, d")]
    found = make(pico_sd1, runtime, records, beside, caption_dropout=0.9, tags={})

    assert {found.batch(["0.png"], draws).texts[1] for draws in STEPS} == {"a, b, c, d"}


def test_a_class_picture_is_cut_to_the_bucket_of_its_record(
    tmp_path: Path, pico_sdxl: ResolvedBase, runtime: Runtime
) -> None:
    records = [picture(tmp_path / "data", "w.png", (96, 48)), picture(tmp_path / "data", "s.png")]
    beside = [picture(tmp_path / "class", "c.png", (50, 50))]
    found = make(pico_sdxl, runtime, records, beside, buckets={"step": 8})

    wide, square = found.batch(["w.png"], STEPS[0]), found.batch(["s.png"], STEPS[0])

    assert wide.frames.tolist() == [[48, 96, 0, 4, 24, 40], [50, 50, 8, 0, 24, 40]]
    assert square.frames[1].tolist() == [50, 50, 0, 0, 32, 32]


def test_class_pictures_of_the_records_shape_are_preferred_where_there_are_enough(
    tmp_path: Path,
) -> None:
    wide = [picture(tmp_path, f"w{n}.png", (96, 48)) for n in range(3)]
    tall = [picture(tmp_path, "t.png", (48, 96))]

    found = class_pictures.by_size([*wide, *tall], {(40, 24): 3, (24, 40): 2})

    assert found == {(40, 24): tuple(wide), (24, 40): (*wide, *tall)}


def test_masks_do_not_hide_class_pictures(
    tmp_path: Path, pico_sd1: ResolvedBase, runtime: Runtime
) -> None:
    image = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 20, 40))
    image.save(tmp_path / "a.png")
    record = ImageRecord("a.png", tmp_path / "a.png", "x", digest.of_file(tmp_path / "a.png"))
    beside = [picture(tmp_path / "class", "c.png")]

    found = make(pico_sd1, runtime, [record], beside, masked_loss={})

    batch = found.batch(["a.png"], STEPS[0])
    assert batch.mask is not None
    assert not torch.equal(batch.mask[0], torch.ones(1, 8, 8))
    assert torch.equal(batch.mask[1], torch.ones(1, 8, 8))


def test_the_loss_of_a_class_picture_is_added_by_its_weight_and_left_out_of_validation(
    tmp_path: Path, pico_sd1: ResolvedBase, runtime: Runtime
) -> None:
    records = [picture(tmp_path / "data", f"{n}.png") for n in range(2)]
    beside = [picture(tmp_path / "class", "c.png", text="a disc")]

    def losses(fixed_round: int | None = None, **changes: Any) -> torch.Tensor:
        chosen = TRAINING if changes.pop("alone", False) else settings(**changes)
        task = ImageTask(
            pico_sd1, records, chosen, SAMPLING, DigestCache(None),
            class_pictures=beside if chosen.prior else (),
        )  # fmt: skip
        task.load(runtime)
        with torch.no_grad():
            return task.losses(["0.png", "1.png"], STEPS[0], fixed_round)

    alone, half, double = losses(alone=True), losses(), losses(prior={**PRIOR, "weight": 0.5})

    assert (half > alone).all()
    torch.testing.assert_close(double - alone, 2 * (half - alone), rtol=1e-3, atol=1e-4)
    assert torch.equal(losses(0), losses(0, alone=True))
