"""Bases that are not what they should be: named, before an hour of training is lost on them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lorareg.errors import LoraregError
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.digest import DigestCache
from lorareg.trainers.image.pipelines import DiffusionBase
from lorareg.trainers.machine import runtime
from tests.trainers.pico_images import make_unet

UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"


@pytest.fixture
def copy(pico_sd1: ResolvedBase, tmp_path: Path) -> Path:
    shutil.copytree(pico_sd1.path, tmp_path / "base")
    return tmp_path / "base"


def use_all(pico: ResolvedBase, folder: Path) -> None:
    """Load every part, as training and sampling do; the digest is not looked at."""
    base = DiffusionBase.of(replace(pico, path=folder))
    base.denoiser(torch.float32)
    base.vae()
    base.scheduler_config()
    base.pipeline(torch.float32, unet=None, vae=None)


def cut(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:-64])

    return damage


def drop(name: str, tensor: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        state = load_file(folder / name)
        del state[next(key for key in state if tensor in key)]
        save_file(state, folder / name, metadata={"format": "pt"})

    return damage


def change(name: str, key: str, value: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        config = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(config | {key: value}))

    return damage


def remove(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def rename(name: str, new: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).rename(folder / new)

    return damage


def keep_only_settings(folder: Path) -> None:
    for file in (folder / "tokenizer").iterdir():
        if file.name != "tokenizer_config.json":
            file.unlink()


DAMAGES = {
    "no denoiser": (remove(UNET), "unet"),
    "a denoiser cut short": (cut(UNET), "unet"),
    "a denoiser with a hole": (drop(UNET, "conv_in.weight"), "unet is not whole"),
    "a denoiser of another width": (change("unet/config.json", "cross_attention_dim", 48), "unet"),
    "a denoiser of another depth": (change("unet/config.json", "layers_per_block", 2), "unet"),
    "only a variant": (rename(UNET, UNET.replace(".safe", ".fp16.safe")), "unet"),
    "an autoencoder cut short": (cut(VAE), "vae"),
    "an autoencoder with a hole": (drop(VAE, "encoder.conv_in.weight"), "vae is not whole"),
    "no autoencoder": (remove("vae"), "vae"),
    "a text encoder cut short": (cut(TEXT), "pipeline"),
    "a text encoder with a hole": (drop(TEXT, "q_proj.weight"), "text_encoder is not whole"),
    "no text encoder": (remove("text_encoder"), "no text_encoder/config.json"),
    "no tokenizer": (remove("tokenizer"), "no tokenizer/tokenizer.json"),
    "no words": (keep_only_settings, "no tokenizer/tokenizer.json"),
    "no scheduler": (remove("scheduler"), "scheduler_config.json"),
    "another architecture": (
        change("model_index.json", "_class_name", "PixArtAlphaPipeline"),
        "Pix",
    ),
}


@pytest.mark.parametrize(("damage", "named"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_base_that_is_not_whole_is_an_error_that_names_the_part(
    copy: Path, pico_sd1: ResolvedBase, damage: Callable[[Path], None], named: str
) -> None:
    damage(copy)

    with pytest.raises(LoraregError) as caught:
        use_all(pico_sd1, copy)

    assert named in caught.value.what
    assert caught.value.why
    assert caught.value.fix


def test_the_copy_itself_is_fine(copy: Path, pico_sd1: ResolvedBase) -> None:
    use_all(pico_sd1, copy)


def test_a_part_s_digest_changes_with_its_files_and_no_others(
    copy: Path, pico_sd1: ResolvedBase
) -> None:
    base = DiffusionBase.of(replace(pico_sd1, path=copy))

    def digests() -> tuple[str, str]:
        cache = DigestCache(None)
        return base.part_digest(("vae",), cache), base.part_digest(("text_encoder",), cache)

    before = digests()
    change("text_encoder/config.json", "dtype", "float16")(copy)
    (copy / "vae" / "README.md").write_text("words")
    after = digests()

    assert after[0] == before[0]
    assert after[1] != before[1]


def test_weights_begin_where_torch_s_own_do(pico_sd1: ResolvedBase) -> None:
    unet = DiffusionBase.of(pico_sd1).denoiser(torch.float32)

    assert {p.data_ptr() % runtime.ALIGNMENT for p in unet.parameters()} == {0}


def test_aligning_moves_only_what_lies_askew_and_changes_no_value() -> None:
    model = make_unet()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    place = model.conv_in.weight.data_ptr()
    askew = torch.empty(4 * 32 * 9 + 1)[1:].view(4, 32, 3, 3)
    askew.copy_(model.conv_out.weight.data)
    model.conv_out.weight.data = askew

    runtime.align(model)

    assert model.conv_in.weight.data_ptr() == place
    assert model.conv_out.weight.data_ptr() % runtime.ALIGNMENT == 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_guidance_of_sd_starts_from_the_empty_caption(
    pico_sd1: ResolvedBase, pico_sdxl: ResolvedBase
) -> None:
    assert not DiffusionBase.of(pico_sd1).has_zero_unconditional
    assert DiffusionBase.of(pico_sdxl).has_zero_unconditional
