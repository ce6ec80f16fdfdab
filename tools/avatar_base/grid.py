"""Contact sheet of the base: what it draws for which words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from tools.avatar_base import corpus

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

STEPS, GUIDANCE = 25, 2.5
_CELL, _MARGIN, _HEAD, _GAP = 96, 128, 18, 4
"""Pixels: a drawn picture, the row titles, the column titles, the space between cells."""


@dataclass(frozen=True)
class Row:
    """One row of the sheet: its title and (column title, prompt) per picture."""

    title: str
    cells: tuple[tuple[str, str], ...]


def rows() -> list[Row]:
    """Hair colours, then hair and clothes, then expressions, each in all five styles."""
    sheet = []
    grounds = dict(zip(corpus.STYLES, ("white", "blue", "yellow", "pink", "green"), strict=True))
    for style in corpus.STYLES:
        cells = tuple(
            (hair, f"portrait, {hair} short hair, smiling, light skin, {style} style, "
             f"{grounds[style]} background")
            for hair in corpus.HAIR_COLOURS
        )  # fmt: skip
        sheet.append(Row(f"{style},\n{grounds[style]} background,\nshort hair", cells))
    looks = {
        "happy": "brown long hair, happy, light skin",
        "sad": "black bob hair, sad, tan skin",
        "angry": "red short hair, angry, light skin",
        "surprised": "blond curly hair, surprised, dark skin",
        "neutral": "blue mohawk hair, neutral, tan skin",
        "glasses": "pink bun hair, smiling, light skin, glasses",
        "sunglasses": "green long hair, smiling, dark skin, sunglasses",
        "beard": "gray short hair, smiling, light skin, beard",
    }
    for style in corpus.STYLES:
        cells = tuple(
            (name, f"portrait, {look}, {style} style, white background")
            for name, look in looks.items()
        )
        sheet.append(Row(f"{style},\nvaried hair and skin", cells))
    return sheet


def draw(
    pipeline: StableDiffusionPipeline, prompts: list[str], seed: int, batch: int = 20
) -> list[Image.Image]:
    """One 64-pixel picture per prompt; the same seed draws the same pictures."""
    import torch

    pipeline.set_progress_bar_config(disable=True)
    pictures: list[Image.Image] = []
    for start in range(0, len(prompts), batch):
        part = prompts[start : start + batch]
        generators = [
            torch.Generator().manual_seed(seed * 100_003 + start + offset)
            for offset in range(len(part))
        ]
        made = pipeline(
            part,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=generators,
        )
        pictures += made.images
    return pictures


def sheet(pipeline: StableDiffusionPipeline, path: Path, seed: int = 0) -> None:
    """Draw all rows and save the sheet as a 256-colour PNG, about 200 kB."""
    layout = rows()
    prompts = [prompt for row in layout for _, prompt in row.cells]
    pictures = iter(draw(pipeline, prompts, seed))
    columns = max(len(row.cells) for row in layout)
    headings = [row.cells for row in layout]
    tops, y = [], 0
    for index in range(len(layout)):
        if index == 0 or _names(headings[index]) != _names(headings[index - 1]):
            y += _HEAD
        tops.append(y)
        y += _CELL + _GAP
    canvas = Image.new("RGB", (_MARGIN + columns * (_CELL + _GAP), y), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=12)
    for index, row in enumerate(layout):
        pen.multiline_text((4, tops[index] + 24), row.title, fill="black", font=font)
        for column, (name, _) in enumerate(row.cells):
            x = _MARGIN + column * (_CELL + _GAP)
            if index == 0 or _names(headings[index]) != _names(headings[index - 1]):
                pen.text((x + 2, tops[index] - _HEAD + 2), name, fill="black", font=font)
            picture = next(pictures).resize((_CELL, _CELL), Image.Resampling.LANCZOS)
            canvas.paste(picture, (x, tops[index]))
    canvas.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def _names(cells: tuple[tuple[str, str], ...]) -> list[str]:
    return [name for name, _ in cells]
