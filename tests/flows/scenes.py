"""Pictures that no check complains about: sharp shapes on a gradient, no two alike."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def scene(number: int, side: int = 128) -> Image.Image:
    """Twelve bright shapes, placed by the number."""
    dice = random.Random(number)
    shade = np.linspace(90, 160, side, dtype=np.uint8)
    ground = np.stack([np.tile(shade, (side, 1)), np.tile(shade[:, None], (1, side))], axis=-1)
    blue = np.full((side, side, 1), dice.randrange(60, 200), np.uint8)
    picture = Image.fromarray(np.concatenate([ground, blue], axis=-1))
    pen = ImageDraw.Draw(picture)
    for _ in range(12):
        x, y = dice.randrange(side), dice.randrange(side)
        width, height = dice.randrange(8, side // 2), dice.randrange(8, side // 2)
        color = tuple(dice.randrange(256) for _ in range(3))
        draw = dice.choice((pen.rectangle, pen.ellipse))
        draw((x, y, x + width, y + height), fill=color)
    return picture


def make_scenes(folder: Path, count: int, side: int = 128) -> dict[str, str]:
    """Write scenes with captions; returns the captions by name."""
    folder.mkdir(parents=True, exist_ok=True)
    captions = {}
    for number in range(count):
        name = f"scene{number:02d}.png"
        scene(number, side).save(folder / name)
        captions[name] = f"zlab, room {number}, shapes on a wall"
    return captions


def write_captions(folder: Path, captions: dict[str, str]) -> None:
    lines = ["file_name,text\n", *(f'{name},"{text}"\n' for name, text in captions.items())]
    (folder / "metadata.csv").write_text("".join(lines), encoding="utf-8")
