"""What a step is given: the right latents, texts, frames and weights, drawn by its place alone."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from lorareg.errors import InterruptedTrainingError
from lorareg.registry import digest
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.digest import DigestCache
from lorareg.registry.image_training import ImageTraining
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.data.images import ImageRecord
from lorareg.trainers.image.inputs import ImageInputs
from lorareg.trainers.image.latents import Encoder, View
from lorareg.trainers.image.pipelines import DiffusionBase
from tests.trainers.pico_images import SIDE, TRAINING, make_picture, resolve

DRAWS = Draws(42).at("train", 3)
BUCKETS = {"step": 8}


class FirstDigests(DigestCache):
    """Remembers every digest for ever, so that a file may be spoiled behind its back."""

    def __init__(self) -> None:
        super().__init__(None)
        self._known: dict[str, str] = {}

    def digests(self, files: Mapping[str, PathLike[str]]) -> dict[str, str]:
        new = {name: path for name, path in files.items() if name not in self._known}
        self._known |= super().digests(new)
        return {name: self._known[name] for name in files}


def make(
    base: ResolvedBase,
    pictures: tuple[ImageRecord, ...],
    runtime: Runtime | None,
    class_pictures: tuple[ImageRecord, ...] = (),
    digests: DigestCache | None = None,
    **changes: Any,
) -> ImageInputs:
    """Inputs as the settings say; encoded if there is a runtime."""
    settings = ImageTraining.model_validate(TRAINING.model_dump() | changes)
    found = ImageInputs(
        DiffusionBase.of(base), pictures, settings, digests or DigestCache(None),
        class_pictures=class_pictures,
    )  # fmt: skip
    if runtime:
        found.encode(runtime)
    return found


def latent(base: ResolvedBase, runtime: Runtime, view: View) -> Mapping[str, torch.Tensor]:
    encoder = Encoder(DiffusionBase.of(base), runtime, DigestCache(None), lambda *at: None)
    return encoder.latents([view])[view]


def caption(folder: Path, name: str, text: str, size: tuple[int, int] = (40, 40)) -> ImageRecord:
    Image.linear_gradient("L").resize(size).convert("RGB").save(folder / name)
    return ImageRecord(name, folder / name, text, digest.of_file(folder / name))


def test_a_batch_is_what_was_trained_on_before_there_were_choices(
    pico_sdxl: ResolvedBase, pictures: tuple[ImageRecord, ...], runtime: Runtime
) -> None:
    found = make(pico_sdxl, pictures, runtime)
    wide = next(p for p in pictures if p.id == "08.png")  # 56 x 40, shrunk to 45 x 32

    batch = found.batch(["00.png", "08.png"], DRAWS)

    value = latent(pico_sdxl, runtime, View(wide, (SIDE, SIDE)))
    spread = (0.5 * value["logvar"]).exp() * DRAWS.normal((4, 8, 8), "posterior", "08.png")
    assert torch.equal(batch.clean[1], value["mean"] + spread)
    assert batch.keys == ["00.png", "08.png"]
    assert batch.texts == ["a red disc", "a red disc"]
    assert batch.frames[1].tolist() == [40, 56, 0, 6, SIDE, SIDE]
    assert batch.mask is None
    assert (batch.weights.tolist(), batch.owners) == ([1.0, 1.0], [0, 1])


def test_validation_draws_nothing(pico_sd1: ResolvedBase, tmp_path: Path, runtime: Runtime) -> None:
    pictures = (caption(tmp_path, "a.png", "one, two, three, four"),)
    found = make(
        pico_sd1, pictures, runtime, class_pictures=(make_picture(tmp_path, "c.png", "red", 40),),
        flip=True, caption_dropout=0.9, tags={}, prior={"path": "data/class", "caption": "a disc"},
    )  # fmt: skip

    batches = [found.batch(["a.png"], Draws(1).at("validation", n), n) for n in range(8)]

    mean = latent(pico_sd1, runtime, View(pictures[0], (SIDE, SIDE)))["mean"]
    assert all(torch.equal(batch.clean[0], mean) for batch in batches)
    assert all(batch.texts == ["one, two, three, four"] for batch in batches)
    assert all(batch.keys == ["a.png"] for batch in batches)


def test_pictures_are_mirrored_half_of_the_time_with_latents_and_frames_of_their_own(
    pico_sdxl: ResolvedBase, tmp_path: Path, runtime: Runtime
) -> None:
    picture = make_picture(tmp_path, "a.png", "red", 101)
    found = make(pico_sdxl, (picture,), runtime, flip=True)
    steps = [Draws(1).at("train", step) for step in range(60)]

    batches = [found.batch(["a.png"], draws) for draws in steps]

    lefts = [int(batch.frames[0, 3]) for batch in batches]
    assert set(lefts) == {24, 25}
    assert 20 < lefts.count(25) < 40
    for mirrored in (False, True):
        step = lefts.index(24 + mirrored)
        value = latent(pico_sdxl, runtime, View(picture, (SIDE, SIDE), mirrored))
        noise = steps[step].normal((4, 8, 8), "posterior", "a.png")
        clean = value["mean"] + (0.5 * value["logvar"]).exp() * noise
        assert torch.equal(batches[step].clean[0], clean)


def test_each_picture_is_mirrored_for_itself(
    pico_sdxl: ResolvedBase, tmp_path: Path, runtime: Runtime
) -> None:
    pair = tuple(make_picture(tmp_path, f"{name}.png", "red", 101) for name in "ab")
    found = make(pico_sdxl, pair, runtime, flip=True)

    steps = [Draws(1).at("train", step) for step in range(20)]
    lefts = [found.batch(["a.png", "b.png"], draws).frames[:, 3].tolist() for draws in steps]

    assert {(24, 24), (24, 25), (25, 24), (25, 25)} == {tuple(pair) for pair in lefts}


def test_a_draw_does_not_depend_on_the_others_of_its_batch(
    pico_sd1: ResolvedBase, pictures: tuple[ImageRecord, ...], runtime: Runtime
) -> None:
    found = make(pico_sd1, pictures, runtime, flip=True, caption_dropout=0.5)

    together = found.batch([picture.id for picture in pictures], DRAWS)
    alone = [found.batch([picture.id], DRAWS) for picture in pictures]

    assert torch.equal(together.clean, torch.cat([batch.clean for batch in alone]))
    assert together.texts == [batch.texts[0] for batch in alone]


def test_pictures_of_one_bucket_make_a_batch_of_its_shape(
    pico_sdxl: ResolvedBase, tmp_path: Path, runtime: Runtime
) -> None:
    wide = tuple(caption(tmp_path, f"{n}.png", "x", (96 + n, 48)) for n in range(2))
    found = make(pico_sdxl, (*wide, caption(tmp_path, "s.png", "x")), runtime, buckets=BUCKETS)

    batch = found.batch(["0.png", "1.png"], DRAWS)

    assert [found.shape(name) for name in found.ids] == ["40x24", "40x24", "32x32"]
    assert batch.clean.shape == (2, 4, 6, 10)
    assert batch.frames.tolist() == [[48, 96, 0, 4, 24, 40], [48, 97, 0, 4, 24, 40]]
    assert torch.equal(
        found.batch(["0.png"], DRAWS, 0).clean[0],
        latent(pico_sdxl, runtime, View(wide[0], (40, 24)))["mean"],
    )


def test_shapes_are_known_before_anything_is_encoded(
    pico_sd1: ResolvedBase, pictures: tuple[ImageRecord, ...]
) -> None:
    found = make(pico_sd1, pictures, None, buckets=BUCKETS)

    assert (found.shape("00.png"), found.shape("08.png")) == ("32x32", "40x24")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"flip": True, "buckets": BUCKETS},
        {"masked_loss": {"source": "alpha", "outside": 0.1}},
        {"prior": {"path": "data/class", "caption": "a disc"}, "flip": True, "buckets": BUCKETS},
    ],
    ids=["squares", "buckets and flips", "masks", "class pictures"],
)
def test_a_warm_start_encodes_nothing(
    pico_sd1: ResolvedBase, tmp_path: Path, runtime: Runtime, changes: dict[str, Any]
) -> None:
    """So a run that goes on does not load the autoencoder."""
    pictures = tuple(transparent(tmp_path, f"{n}.png", (40 + 20 * n, 40)) for n in range(3))
    beside = (make_picture(tmp_path, "c.png", "red", 60),) if "prior" in changes else ()
    shutil.copytree(pico_sd1.path, tmp_path / "copy")
    base, digests = resolve(tmp_path / "copy"), FirstDigests()
    cold = make(base, pictures, runtime, beside, digests, **changes)
    before = cold.batch(["1.png"], DRAWS)
    for weights in (tmp_path / "copy" / "vae").glob("*.safetensors"):
        weights.write_bytes(b"")

    warm = make(base, pictures, runtime, beside, digests, **changes)

    after = warm.batch(["1.png"], DRAWS)
    assert torch.equal(before.clean, after.clean)
    assert before.texts == after.texts


def test_texts_are_all_that_a_run_can_ask_for(
    pico_sd1: ResolvedBase, tmp_path: Path, runtime: Runtime
) -> None:
    pictures = (caption(tmp_path, "a.png", "z, one, two, three"), caption(tmp_path, "b.png", "b"))
    beside = (caption(tmp_path, "c.png", "a person"),)
    found = make(
        pico_sd1, pictures, runtime, beside, tags={"dropout": 0.3}, caption_dropout=0.3,
        prior={"path": "data/class", "caption": "a person"},
    )  # fmt: skip

    asked = {
        text
        for step in range(100)
        for text in found.batch(["a.png", "b.png"], Draws(1).at("train", step)).texts
    }

    assert asked <= found.texts()
    assert {"", "b", "a person"} < asked
    assert "z, one, two, three" in found.texts()


def test_what_is_encoded_before_a_stop_is_not_encoded_again(
    pico_sd1: ResolvedBase, pictures: tuple[ImageRecord, ...], runtime: Runtime
) -> None:
    told: list[int] = []

    def stop(what: str, done: int, total: int) -> None:
        told.append(total)
        if done == 4:
            raise InterruptedTrainingError("stopped")

    base = DiffusionBase.of(pico_sd1)
    with pytest.raises(InterruptedTrainingError):
        ImageInputs(base, pictures, TRAINING, DigestCache(None), stop).encode(runtime)
    told.clear()
    ImageInputs(
        base, pictures, TRAINING, DigestCache(None), lambda what, done, total: told.append(total)
    ).encode(runtime)

    assert told == [5] * 5


def test_what_is_learned_from_is_said(
    pico_sd1: ResolvedBase, tmp_path: Path, runtime: Runtime
) -> None:
    pictures = tuple(
        transparent(tmp_path, f"{n}.png", size)
        for n, size in enumerate([(96, 48), (100, 50), (64, 64), (20, 20)])
    )
    pictures += (caption(tmp_path, "opaque.png", "x, y, z", (64, 64)),)
    beside = (make_picture(tmp_path, "c.png", "red", 60), caption(tmp_path, "d.png", "y", (9, 9)))
    found = make(
        pico_sd1, pictures, runtime, beside, buckets=BUCKETS, flip=True, tags={"variants": 16},
        masked_loss={"source": "alpha", "outside": 0.1},
        prior={"path": "data/class", "caption": "a disc", "weight": 0.5},
    )  # fmt: skip

    assert found.describe() == [
        "pictures: 1 of 16x16, 2 of 32x32, 2 of 40x24, each also mirrored",
        "small pictures: 1, each in the largest bucket that it fills",
        "captions: 2 variants of 1 with tags; without ',', as written: 1",
        "masks: the alpha channels, what they hide weighs 0.1; pictures without one: 1",
        "class pictures: 2 of data/class, one beside each picture, weight 0.5; "
        "small ones, enlarged: 1",
    ]


def test_pictures_that_a_square_enlarges_are_counted(
    pico_sd1: ResolvedBase, tmp_path: Path, runtime: Runtime
) -> None:
    pictures = (caption(tmp_path, "a.png", "x", (20, 90)), caption(tmp_path, "b.png", "x"))

    found = make(pico_sd1, pictures, runtime)

    assert found.describe() == [
        "pictures: 2 of 32x32",
        "small pictures: 1, enlarged to this size",
    ]


def transparent(folder: Path, name: str, size: tuple[int, int]) -> ImageRecord:
    """A picture whose left half can be seen."""
    image = Image.new("RGBA", size, (200, 40, 40, 0))
    image.paste((200, 40, 40, 255), (0, 0, size[0] // 2, size[1]))
    image.save(folder / name)
    return ImageRecord(name, folder / name, "a red half", digest.of_file(folder / name))
