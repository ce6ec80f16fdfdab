"""Latents of pictures: what diffusers would compute, computed once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.digest import DigestCache
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.data.cuts import Cut
from lorareg.trainers.data.images import ImageRecord, load_image
from lorareg.trainers.image.latents import Encoder, View
from lorareg.trainers.image.pipelines import DiffusionBase
from tests.trainers.pico_images import SIDE, make_picture, make_pictures, resolve

Encode = Callable[[ResolvedBase], Encoder]
SQUARE = (SIDE, SIDE)


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


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("size", [SQUARE, (48, 16)])
def test_latents_are_the_moments_of_the_autoencoder(
    pico_sd1: ResolvedBase,
    encoder: Encode,
    tmp_path: Path,
    size: tuple[int, int],
    mirrored: bool,
) -> None:
    view = View(make_picture(tmp_path, "a.png", "red", 60), size, mirrored)

    latent = encoder(pico_sd1).latents([view])[view]

    vae = AutoencoderKL.from_pretrained(pico_sd1.path, subfolder="vae")
    expected = vae.encode(pixels(view)).latent_dist
    torch.testing.assert_close(latent["mean"], expected.mean[0])
    torch.testing.assert_close(latent["logvar"], expected.logvar[0])
    assert latent["mean"].shape == (4, size[1] // 4, size[0] // 4)


def test_a_mirrored_picture_has_latents_of_its_own(
    pico_sd1: ResolvedBase, encoder: Encode, tmp_path: Path
) -> None:
    picture = make_picture(tmp_path, "a.png", "red", 40)
    upright, mirrored = View(picture, SQUARE), View(picture, SQUARE, is_mirrored=True)

    found = encoder(pico_sd1).latents([upright, mirrored])

    turned = found[upright]["mean"].flip(-1)
    assert (found[mirrored]["mean"] - turned).abs().max() > 1e-3


def test_the_frame_of_a_picture_is_kept_for_sdxl(
    pico_sdxl: ResolvedBase, encoder: Encode, tmp_path: Path
) -> None:
    view = View(make_picture(tmp_path, "a.png", "red", 101), SQUARE)  # 101 x 40, shrunk to 81 x 32
    mirrored = replace(view, is_mirrored=True)

    latents = encoder(pico_sdxl).latents([view, mirrored])

    assert latents[view]["frame"].tolist() == [40, 101, 0, 24]
    assert latents[mirrored]["frame"].tolist() == [40, 101, 0, 25]


def test_with_a_warm_cache_the_autoencoder_is_not_loaded(
    pico_sd1: ResolvedBase, encoder: Encode, tmp_path: Path
) -> None:
    views = [View(picture, SQUARE) for picture in make_pictures(tmp_path, 3)]
    cold = encoder(pico_sd1)
    latents = cold.latents(views)

    warm = encoder(pico_sd1)
    again = warm.latents(views)

    assert "_vae" in vars(cold)
    assert "_vae" not in vars(warm)
    assert all(torch.equal(latents[view]["mean"], again[view]["mean"]) for view in views)


def test_an_edited_picture_is_encoded_again_and_nothing_else(
    pico_sd1: ResolvedBase, encoder: Encode, told: list[tuple[str, int, int]], tmp_path: Path
) -> None:
    pictures = list(make_pictures(tmp_path, 4))
    encoder(pico_sd1).latents([View(picture, SQUARE) for picture in pictures])
    told.clear()

    pictures[1] = make_picture(tmp_path, pictures[1].id, "black", 50)
    encoder(pico_sd1).latents([View(picture, SQUARE) for picture in pictures])

    assert told == [("encoding pictures", 1, 1)]


def test_another_cut_or_autoencoder_makes_other_latents(
    pico_sd1: ResolvedBase, encoder: Encode, told: list[tuple[str, int, int]], tmp_path: Path
) -> None:
    picture = make_picture(tmp_path, "a.png", "red", 40)
    other = edited(
        pico_sd1, tmp_path / "copy", "vae/config.json", '"sample_size": 32', '"sample_size": 64'
    )
    views = [View(picture, SQUARE), View(picture, (40, 40)), View(picture, (40, 32))]
    views += [View(picture, (32, 40)), View(picture, SQUARE, is_mirrored=True)]

    for view in views:
        encoder(pico_sd1).latents([view])
    encoder(other).latents(views[:1])

    assert told == [("encoding pictures", 1, 1)] * 6


def test_a_change_of_the_denoiser_keeps_the_cache(
    pico_sd1: ResolvedBase, encoder: Encode, told: list[tuple[str, int, int]], tmp_path: Path
) -> None:
    view = View(make_picture(tmp_path, "a.png", "red", 40), SQUARE)
    encoder(pico_sd1).latents([view])
    told.clear()

    other = edited(
        pico_sd1, tmp_path / "copy", "unet/config.json", '"sample_size": 8', '"sample_size": 16'
    )
    encoder(other).latents([view])

    assert told == []


def test_a_value_does_not_depend_on_what_else_is_encoded(
    pico_sd1: ResolvedBase, runtime: Runtime, tmp_path: Path
) -> None:
    pictures = make_pictures(tmp_path, 3)

    def latents(chosen: tuple[ImageRecord, ...], cache: str) -> dict[str, torch.Tensor]:
        place = replace(runtime, cache=tmp_path / cache)
        base = DiffusionBase.of(pico_sd1)
        encoder = Encoder(base, place, DigestCache(None), lambda *at: None)
        found = encoder.latents([View(picture, SQUARE) for picture in chosen])
        return {view.picture.id: value["mean"] for view, value in found.items()}

    together, alone = latents(pictures, "all"), latents(pictures[2:], "one")

    assert torch.equal(together["02.png"], alone["02.png"])


def pixels(view: View) -> torch.Tensor:
    """What the autoencoder is given, by the way through the libraries."""
    image = load_image(view.picture.path)
    cut = np.asarray(Cut.of(image.size, view.size).of_picture(image)).copy()
    values = torch.from_numpy(cut).permute(2, 0, 1)[None] / 127.5 - 1
    return values.flip(-1) if view.is_mirrored else values


def edited(base: ResolvedBase, folder: Path, name: str, old: str, new: str) -> ResolvedBase:
    """A copy of a base with one value of a config changed."""
    shutil.copytree(base.path, folder)
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))
    return resolve(folder)
