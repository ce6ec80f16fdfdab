"""Latents and embeddings: what diffusers would compute, computed once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, StableDiffusionXLPipeline

from lorareg.registry.base import ResolvedBase
from lorareg.registry.digest import DigestCache
from lorareg.trainers.data.images import ImageRecord, load_image, square
from lorareg.trainers.encoding import Encoder
from lorareg.trainers.pipelines import DiffusionBase
from lorareg.trainers.tasks.base import Runtime
from tests.trainers.pico_images import SIDE, make_picture, make_pictures, resolve

Encode = Callable[[ResolvedBase], Encoder]


@pytest.fixture
def told() -> list[tuple[str, int, int]]:
    return []


@pytest.fixture
def encoder(runtime: Runtime, told: list[tuple[str, int, int]]) -> Encode:
    """A new encoder on the same cache, as another run would make it."""

    def make(base: ResolvedBase) -> Encoder:
        def progress(what: str, done: int, total: int) -> None:
            told.append((what, done, total))

        return Encoder(DiffusionBase.of(base), runtime, DigestCache(None), progress)

    return make


def test_latents_are_the_moments_of_the_autoencoder(
    pico_sd1: ResolvedBase, encoder: Encode, tmp_path: Path
) -> None:
    record = make_picture(tmp_path, "a.png", "red", 40)

    latent = encoder(pico_sd1).pictures([record], SIDE)["a.png"]

    vae = AutoencoderKL.from_pretrained(pico_sd1.path, subfolder="vae")
    image = torch.from_numpy(np.asarray(shrunk(record))).permute(2, 0, 1)[None] / 127.5 - 1
    expected = vae.encode(image).latent_dist
    torch.testing.assert_close(latent["mean"], expected.mean[0])
    torch.testing.assert_close(latent["logvar"], expected.logvar[0])
    assert latent["mean"].shape == (4, 8, 8)


def test_the_frame_of_a_picture_is_kept_for_sdxl(
    pico_sdxl: ResolvedBase, encoder: Encode, tmp_path: Path
) -> None:
    record = make_picture(tmp_path, "a.png", "red", 100)  # 100 x 40, shrunk to 80 x 32

    latent = encoder(pico_sdxl).pictures([record], SIDE)["a.png"]

    assert latent["frame"].tolist() == [40, 100, 0, 24]


def test_embeddings_of_sd_are_those_of_the_pipeline(
    pico_sd2: ResolvedBase, encoder: Encode
) -> None:
    found = encoder(pico_sd2).captions(["a red disc", ""])

    pipeline = StableDiffusionPipeline.from_pretrained(pico_sd2.path)
    for text, value in found.items():
        expected, _ = pipeline.encode_prompt(text, "cpu", 1, do_classifier_free_guidance=False)
        assert list(value) == ["embeds"]
        torch.testing.assert_close(value["embeds"], expected[0])
    assert not torch.equal(found["a red disc"]["embeds"], found[""]["embeds"])


def test_embeddings_of_sdxl_are_those_of_the_pipeline(
    pico_sdxl: ResolvedBase, encoder: Encode
) -> None:
    value = encoder(pico_sdxl).captions(["a red disc"])["a red disc"]

    pipeline = StableDiffusionXLPipeline.from_pretrained(pico_sdxl.path)
    embeds, _, pooled, _ = pipeline.encode_prompt("a red disc", do_classifier_free_guidance=False)
    torch.testing.assert_close(value["embeds"], embeds[0])
    torch.testing.assert_close(value["pooled"], pooled[0])
    assert value["embeds"].shape == (24, 72)
    assert value["pooled"].shape == (24,)


@pytest.mark.parametrize("zeros", [True, False])
def test_the_empty_caption_of_sdxl_is_what_guidance_starts_from(
    pico_sdxl: ResolvedBase, encoder: Encode, tmp_path: Path, zeros: bool
) -> None:
    base = pico_sdxl
    if not zeros:
        base = edited(
            pico_sdxl,
            tmp_path / "copy",
            "model_index.json",
            '"force_zeros_for_empty_prompt": true',
            '"force_zeros_for_empty_prompt": false',
        )

    value = encoder(base).captions([""])[""]

    pipeline = StableDiffusionXLPipeline.from_pretrained(base.path)
    _, unconditional, _, pooled = pipeline.encode_prompt("x", do_classifier_free_guidance=True)
    torch.testing.assert_close(value["embeds"], unconditional[0])
    torch.testing.assert_close(value["pooled"], pooled[0])
    assert bool(value["embeds"].any()) is not zeros


@pytest.mark.parametrize("base", ["pico_sd1", "pico_sdxl"])
def test_with_a_warm_cache_no_encoder_is_loaded(
    base: str, request: pytest.FixtureRequest, encoder: Encode, tmp_path: Path
) -> None:
    found: ResolvedBase = request.getfixturevalue(base)
    records = make_pictures(tmp_path, 3)
    cold = encoder(found)
    latents = cold.pictures(records, SIDE)
    texts = cold.captions([record.caption for record in records])

    warm = encoder(found)
    again = warm.pictures(records, SIDE)
    texts_again = warm.captions([record.caption for record in records])

    assert not {"_vae", "_text_pipeline"} & vars(warm).keys()
    assert {"_vae", "_text_pipeline"} <= vars(cold).keys()
    for name, latent in latents.items():
        assert torch.equal(latent["mean"], again[name]["mean"])
    for text, value in texts.items():
        assert torch.equal(value["embeds"], texts_again[text]["embeds"])


def test_an_edited_picture_or_caption_is_encoded_again_and_nothing_else(
    pico_sd1: ResolvedBase, encoder: Encode, told: list[tuple[str, int, int]], tmp_path: Path
) -> None:
    records = list(make_pictures(tmp_path, 4))
    encoder(pico_sd1).pictures(records, SIDE)
    before = encoder(pico_sd1).captions([record.caption for record in records])
    told.clear()

    records[1] = make_picture(tmp_path, records[1].id, "black", 50)
    latents = encoder(pico_sd1).pictures(records, SIDE)
    after = encoder(pico_sd1).captions([*before, "a black disc"])

    assert told == [("encoding pictures", 1, 1), ("encoding captions", 1, 1)]
    assert latents.keys() == {record.id for record in records}
    assert set(after) - set(before) == {"a black disc"}


def test_another_size_or_autoencoder_makes_other_latents(
    pico_sd1: ResolvedBase, encoder: Encode, told: list[tuple[str, int, int]], tmp_path: Path
) -> None:
    record = make_picture(tmp_path, "a.png", "red", 40)
    other = edited(
        pico_sd1, tmp_path / "copy", "vae/config.json", '"sample_size": 32', '"sample_size": 64'
    )

    for base, side in ((pico_sd1, 32), (pico_sd1, 40), (other, 32)):
        encoder(base).pictures([record], side)

    assert told == [("encoding pictures", 1, 1)] * 3


def test_a_change_of_the_denoiser_keeps_the_cache(
    pico_sd1: ResolvedBase, encoder: Encode, told: list[tuple[str, int, int]], tmp_path: Path
) -> None:
    record = make_picture(tmp_path, "a.png", "red", 40)
    encoder(pico_sd1).pictures([record], SIDE)
    told.clear()

    other = edited(
        pico_sd1, tmp_path / "copy", "unet/config.json", '"sample_size": 8', '"sample_size": 16'
    )
    encoder(other).pictures([record], SIDE)

    assert told == []


def test_a_value_does_not_depend_on_what_else_is_encoded(
    pico_sd1: ResolvedBase, runtime: Runtime, tmp_path: Path
) -> None:
    records = make_pictures(tmp_path, 3)

    def latents(chosen: tuple[ImageRecord, ...], cache: str) -> dict[str, torch.Tensor]:
        place = replace(runtime, cache=tmp_path / cache)
        base = DiffusionBase.of(pico_sd1)
        found = Encoder(base, place, DigestCache(None), lambda *at: None).pictures(chosen, SIDE)
        return {name: value["mean"] for name, value in found.items()}

    together, alone = latents(records, "all"), latents(records[2:], "one")

    assert torch.equal(together["02.png"], alone["02.png"])


def shrunk(record: ImageRecord) -> np.ndarray:
    return np.asarray(square(load_image(record.path), SIDE)[0]).copy()


def edited(base: ResolvedBase, folder: Path, name: str, old: str, new: str) -> ResolvedBase:
    """A copy of a base with one value of a config changed."""
    shutil.copytree(base.path, folder)
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))
    return resolve(folder)
