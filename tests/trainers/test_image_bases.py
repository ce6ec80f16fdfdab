"""What does not fit a base is named with its reason, before anything is encoded or loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lorareg.errors import InvalidFileError, TrainingError
from lorareg.registry.bases import base as bases
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.digest import DigestCache
from lorareg.registry.image_training import ImageTraining, Timesteps
from lorareg.registry.manifest import Base
from lorareg.trainers.data.check.tokens import TokenCounter
from lorareg.trainers.image.pipelines import DiffusionBase
from lorareg.trainers.image.task import ImageTask
from tests.trainers.pico_flow import (  # noqa: F401  (fixtures, found by name)
    pico_flux,
    pico_schnell,
    pico_sd3,
    pico_sd3_clips,
)
from tests.trainers.pico_images import SAMPLING, SIDE, TOKENS, TRAINING, Case, resolve


def load(case: Case, **changes: Any) -> ImageTask:
    settings = case.training.model_copy(update=changes)
    task = ImageTask(case.base, case.pictures, settings, SAMPLING, DigestCache(None))
    task.load(case.runtime)
    return task


MISFITS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "diffusion keys on a flow": (
        "pico_sd3",
        {"min_snr_gamma": 5.0, "zero_terminal_snr": True, "guidance_embed": 3.5},
        ["train.min_snr_gamma", "train.zero_terminal_snr", "train.guidance_embed"],
    ),
    "flow keys on a diffusion": (
        "pico_sd1",
        {"timesteps": Timesteps(), "guidance_embed": 3.5, "zero_terminal_snr": True},
        ["train.timesteps", "train.guidance_embed", "predicts epsilon"],
    ),
    "guidance for a base without": (
        "pico_schnell", {"guidance_embed": 3.5}, ["guidance_embeds is off"],
    ),
    "sides that no patch divides": ("pico_even", {"resolution": 24}, ["multiples of 16", "24x24"]),
    "sides beyond the last place": ("pico_sd3", {"resolution": 104}, ["up to 96 pixels"]),
}  # fmt: skip


@pytest.fixture
def pico_even(pico_flux: ResolvedBase, tmp_path: Path) -> ResolvedBase:  # noqa: F811
    """The tiny Flux with an autoencoder that says it shrinks eight times, as real ones do."""
    folder = tmp_path / "even"
    shutil.copytree(pico_flux.path, folder)
    edit(folder / "vae" / "config.json", block_out_channels=[16, 16, 32, 32])
    return resolve(folder)


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(("base", "changes", "named"), MISFITS.values(), ids=MISFITS.keys())
def test_keys_that_mean_nothing_for_a_base_are_all_named_before_anything_is_loaded(
    base: str,
    changes: dict[str, Any],
    named: list[str],
    request: pytest.FixtureRequest,
    case: Case,
) -> None:
    settings: ImageTraining = TRAINING.model_copy(update=changes)
    chosen = request.getfixturevalue(base)
    task = ImageTask(chosen, case.pictures, settings, SAMPLING, DigestCache(None))

    with pytest.raises(TrainingError, match="does not fit the manifest") as caught:
        task.load(case.runtime)

    assert all(word in caught.value.why for word in named)
    assert caught.value.why.count("\n  - ") == (3 if len(named) == 3 else 1)
    assert not case.runtime.cache.exists()


def test_a_v_base_trains_towards_pure_noise_and_samples_from_it(
    case: Case, pico_sd1: ResolvedBase, tmp_path: Path
) -> None:
    shutil.copytree(pico_sd1.path, tmp_path / "v")
    edit(tmp_path / "v" / "scheduler" / "scheduler_config.json", prediction_type="v_prediction")
    v = replace(case, base=resolve(tmp_path / "v"))

    plain, rescaled = load(v), load(v, zero_terminal_snr=True)

    assert plain._ready.process.alpha_bar[-1] > 0
    assert rescaled._ready.process.alpha_bar[-1] == 0
    assert any("trailing" in said for said in rescaled.describe())
    (first,), (second,) = plain.sample(["a red disc"], 1), rescaled.sample(["a red disc"], 1)
    assert first.output != second.output


@pytest.mark.parametrize(
    ("tensor", "title"),
    [
        ("model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", "Stable Diffusion 3"),
        ("double_blocks.0.img_attn.qkv.weight", "Flux"),
    ],
)
def test_a_single_file_of_a_transformer_is_refused_with_the_reason(
    tmp_path: Path, tensor: str, title: str
) -> None:
    save_file({tensor: torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    base = bases.resolve(
        Base(model="model.safetensors"), "text-to-image", tmp_path, DigestCache(None)
    )

    with pytest.raises(InvalidFileError, match=f"single file of {title}") as caught:
        DiffusionBase.of(base)

    assert "neither text encoders" in caught.value.why


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: shutil.rmtree(folder / name)


DAMAGES = {
    "no transformer": (remove("transformer"), "transformer"),
    "no T5": (remove("text_encoder_3"), "no text_encoder_3/config.json"),
    "no words of T5": (
        remove("tokenizer_3"),
        "no tokenizer_3/tokenizer.json or tokenizer_3/spiece",
    ),
}


@pytest.mark.parametrize(("damage", "named"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_base_that_is_not_whole_is_an_error_that_names_the_part(
    pico_sd3: ResolvedBase,  # noqa: F811
    tmp_path: Path,
    damage: Callable[[Path], None],
    named: str,
) -> None:
    shutil.copytree(pico_sd3.path, tmp_path / "copy")
    damage(tmp_path / "copy")
    base = DiffusionBase.of(replace(pico_sd3, path=tmp_path / "copy"))

    def use_all() -> None:
        base.denoiser(torch.float32)
        base.pipeline(torch.float32)

    with pytest.raises(InvalidFileError) as caught:
        use_all()

    assert named in caught.value.what


def test_every_part_of_a_transformer_base_is_in_its_digest(
    pico_sd3: ResolvedBase,  # noqa: F811
    tmp_path: Path,
) -> None:
    shutil.copytree(pico_sd3.path, tmp_path / "copy")
    found = {resolve(tmp_path / "copy").digest}

    for part in ("transformer", "text_encoder_3"):
        edit(tmp_path / "copy" / part / "config.json", note=part)
        found.add(resolve(tmp_path / "copy").digest)

    assert len(found) == 3


def test_captions_are_counted_by_the_encoder_that_reads_most(
    pico_flux: ResolvedBase,  # noqa: F811
    pico_sd3: ResolvedBase,  # noqa: F811
    pico_sd3_clips: ResolvedBase,  # noqa: F811
) -> None:
    assert TokenCounter.of(pico_flux, None).limit == 512
    assert TokenCounter.of(pico_sd3, None).limit == 256
    assert TokenCounter.of(pico_sd3_clips, None).limit == TOKENS
    assert TokenCounter.of(pico_flux, None).count(["a red disc"])["a red disc"].tokens == 12


def test_the_side_of_a_transformer_base_is_read_from_its_config(
    pico_sd3: ResolvedBase,  # noqa: F811
    pico_flux: ResolvedBase,  # noqa: F811
) -> None:
    assert bases.default_resolution(pico_sd3.path) == SIDE
    assert bases.default_resolution(pico_flux.path) == 128 * 4
