"""A CLIP that has really learned three colours and three shapes, in a few seconds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

from tests.trainers.tiny_captioners import COLOURS, SHAPES, clip_pixels, picture

SIDE = 24
NOTHING = "a photo"
SENTENCES = [*(f"a photo of {word}" for word in (*COLOURS, *SHAPES)), NOTHING]


def scene(chance: random.Random) -> tuple[Image.Image, str, str]:
    """A coloured shape somewhere, with its colour and shape; every sixth picture shows nothing."""
    if chance.random() < 1 / 6:
        grey = chance.randrange(180, 256)
        return Image.new("RGB", (48, 48), (grey, grey, grey)), "", ""
    colour, shape = chance.choice(list(COLOURS)), chance.choice(SHAPES)
    shade = tuple(max(0, min(255, value + chance.randrange(-30, 31))) for value in COLOURS[colour])
    return picture(shade, shape, chance.randrange(-6, 7)), colour, shape  # type: ignore[arg-type]


def make_tokenizer() -> PreTrainedTokenizerFast:
    # "<end>" is not number 2: for CLIP that means a config of old, whose end is its largest number.
    words = sorted({word for sentence in SENTENCES for word in sentence.split()})
    vocabulary = {
        word: number for number, word in enumerate(["<unk>", "<pad>", "<start>", "<end>", *words])
    }
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 2), ("<end>", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<start>", eos_token="<end>",
        pad_token="<pad>",
    )  # fmt: skip


def make_clip(folder: Path, steps: int = 160) -> Path:
    """Train on scenes: each picture has to choose its colour, its shape, or nothing."""
    torch.manual_seed(3)
    chance = random.Random(3)
    tokenizer, pixels = make_tokenizer(), clip_pixels(SIDE)
    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
             "num_attention_heads": 4, "projection_dim": 32}  # fmt: skip
    model = CLIPModel(
        CLIPConfig(
            text_config={**sizes, "vocab_size": len(tokenizer), "max_position_embeddings": 12,
                         "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 1},
            vision_config={**sizes, "image_size": SIDE, "patch_size": 6},
            projection_dim=32,
        )
    )  # fmt: skip
    sentences = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(steps):
        scenes = [scene(chance) for _ in range(48)]
        seen = pixels(images=[image for image, *_ in scenes], return_tensors="pt")
        logits = model(**_tensors(sentences), pixel_values=seen["pixel_values"]).logits_per_image
        loss = sum(
            torch.nn.functional.cross_entropy(
                logits[:, [*range(first, first + 3), len(SENTENCES) - 1]],
                torch.tensor([names.index(row[aspect]) if row[aspect] else 3 for row in scenes]),
            )
            for aspect, first, names in ((1, 0, list(COLOURS)), (2, 3, list(SHAPES)))
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
        schedule.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    pixels.save_pretrained(folder)
    return folder


def _tensors(tokens: Any) -> dict[str, torch.Tensor]:
    return {name: tokens[name] for name in ("input_ids", "attention_mask")}
