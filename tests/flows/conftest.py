"""A registry as people have it: a tiny base, a few pictures, DVC and git, and the command line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from lorareg.cli.app import app
from tests.started import start

COLORS = ("red", "green", "blue", "gold", "purple", "teal", "black", "orange")


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def lorareg(folder: Path, *arguments: str) -> Answer:
    """Run a command in ``folder``."""
    with inside(folder):
        result = CliRunner().invoke(app, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Answer(result.exit_code, result.stdout, result.stderr)


def make_pictures(folder: Path, count: int = 8, side: int = 32) -> Path:
    """Circles on plain ground, with captions that say so."""
    folder.mkdir(parents=True)
    lines = []
    for number in range(count):
        color = COLORS[number % len(COLORS)]
        picture = Image.new("RGB", (side, side), "white")
        ImageDraw.Draw(picture).ellipse((4, 4, side - 4 - number, side - 4), fill=color)
        picture.save(folder / f"img{number:02d}.png")
        lines.append(f'img{number:02d}.png,"a {color} zdot, number {number}"\n')
    (folder / "metadata.csv").write_text("".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Stable Diffusion of 32x32 pixels in the real folder layout."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
    from diffusers import UNet2DConditionModel as UNet
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    letters = [chr(code) for code in range(33, 127)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{x}</w>" for x in letters)]
    tokenizer = CLIPTokenizer(
        vocab={word: number for number, word in enumerate(words)}, merges=[], model_max_length=16
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=32,
            intermediate_size=37,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=16,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    unet = UNet(
        sample_size=16,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=32,
    )
    folder = tmp_path_factory.mktemp("base") / "tiny"
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def registry(tmp_path: Path, tiny_base: Path) -> Path:
    """A registry with one untrained adapter, ``character/dot``, and a git remote."""
    return make_registry(tmp_path, tiny_base)


def make_registry(top: Path, base: Path) -> Path:
    """A copy of a registry that is made once: DVC takes seconds to set one up."""
    made = base.parent / "template"
    if not made.exists():
        made.mkdir()
        set_up_registry(made, base)
    shutil.copytree(made, top, dirs_exist_ok=True, symlinks=True)
    for config in (".dvc/config", ".git/config"):
        file = top / "registry" / config
        file.write_text(file.read_text("utf-8").replace(str(made), str(top)), "utf-8")
    return top / "registry"


def set_up_registry(top: Path, base: Path) -> Path:
    root = top / "registry"
    start(root, top / "storage")
    shutil.copytree(base, root / "base")
    git(root, "config", "user.name", "Test")
    git(root, "config", "user.email", "test@example.org")
    make_pictures(root / "data" / "dots")
    new = lorareg(root, "new", "character/dot", "--data", "data/dots", "--base", "base")
    assert new.code == 0, new.err
    small = ["lora.rank=2", "train.batch_size=2", "train.epochs=3", "train.precision=fp32"]
    small += ["train.save_steps=2", "sample.prompts=[a red zdot]", "sample.steps=2"]
    set_keys(root, "character/dot", *small)
    git(top, "init", "--quiet", "--bare", "--initial-branch=main", "origin.git")
    git(root, "remote", "add", "origin", str(top / "origin.git"))
    # The base goes along in git: it is a few hundred kilobytes here.
    git(root, "add", "base", "manifests")
    git(root, "commit", "--quiet", "-m", "base and manifest")
    return root


def set_keys(root: Path, asset: str, *pairs: str) -> None:
    from lorareg.registry import yamlfile
    from lorareg.registry.ids import AssetId
    from lorareg.registry.workspace import Workspace

    changes = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        changes[key] = yamlfile.scalar(value)
    Workspace(root).edit_manifest(AssetId.parse(asset), changes)


def git(folder: Path, *arguments: str) -> str:
    import subprocess

    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout
