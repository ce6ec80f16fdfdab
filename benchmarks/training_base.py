"""A base of Stable Diffusion 1.5's exact shapes with random weights, and pictures to learn."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from lorareg.registry import digest
from lorareg.registry.bases import base as bases
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.digest import DigestCache
from lorareg.registry.manifest import Base
from lorareg.trainers.data.images import ImageRecord

PICTURES = 8
SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "clip_sample": False,
    "steps_offset": 1,
}


def make_base(work: Path) -> ResolvedBase:
    """The base in diffusers layout, 4.3 GB, made the first time."""
    folder = work / "sd15-shaped"
    if not (folder / "model_index.json").is_file():
        torch.manual_seed(0)
        _save(folder)
    base = Base(model=folder.name)
    return bases.resolve(base, "text-to-image", work, DigestCache(work / "digests.sqlite"))


def _save(folder: Path) -> None:
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    words = ["<|startoftext|>", "<|endoftext|>"]
    letters = [chr(code) for code in range(33, 127)]
    vocabulary = [*words, *letters, *(f"{letter}</w>" for letter in letters)]
    text = CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
        bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
            sample_size=512,
        ),
        text_encoder=CLIPTextModel(text),
        tokenizer=CLIPTokenizer(
            vocab={word: number for number, word in enumerate(vocabulary)},
            merges=[],
            model_max_length=77,
        ),
        unet=UNet2DConditionModel(cross_attention_dim=768, sample_size=64),
        scheduler=DDIMScheduler(**SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)


def make_pictures(folder: Path) -> list[ImageRecord]:
    """Eight pictures of rings, 256 pixels wide."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_picture(folder / f"{number}.png", number) for number in range(PICTURES)]


def _picture(path: Path, number: int) -> ImageRecord:
    image = Image.new("RGB", (256, 256), (30 * number, 60, 200 - 20 * number))
    draw = ImageDraw.Draw(image)
    for ring in range(8):
        side, tint = 120 - 14 * ring, int(128 + 127 * math.sin(ring + number))
        box = (128 - side, 128 - side, 128 + side, 128 + side)
        draw.ellipse(box, fill=(tint, 255 - tint, 32 * ring))
    image.save(path)
    return ImageRecord(path.name, path, f"rings number {number}", digest.of_file(path))
