"""Pictures that cost a decoder what photographs cost it, made from nothing but a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SHEET = 2048  # pixels a side of a sheet that pictures are cut from
SHEETS = 6
SLOPE = 1.3  # amplitude falls with frequency; chosen for the size of files that photographs have
QUALITY = 95


def photographs(folder: Path, count: int, side: int = 512) -> None:
    """Write JPEGs: clouds of detail at all scales with hard edges in them.

    The 104 photographs this was set by take 89 KB at 512 pixels and quality 95, these 94 KB.
    """
    random = np.random.default_rng(0)
    sheets = [_sheet(random) for _ in range(SHEETS)]
    folder.mkdir(parents=True)
    for number in range(count):
        one, other = (_cut(sheets[random.integers(SHEETS)], side, random) for _ in range(2))
        share = random.uniform(0.3, 0.7)
        picture = Image.blend(one, other, share)
        _shapes(picture, random)
        picture.save(folder / f"{number:05}.jpg", quality=QUALITY)


def _cut(sheet: Image.Image, side: int, random: np.random.Generator) -> Image.Image:
    left, top = random.integers(0, SHEET - side, 2).tolist()
    return sheet.crop((left, top, left + side, top + side))


def _sheet(random: np.random.Generator) -> Image.Image:
    light = _cloud(random) * 60 + 128
    colours = [_cloud(random) * 18 for _ in range(3)]
    pixels = np.stack([light + colour for colour in colours], axis=-1)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _cloud(random: np.random.Generator) -> NDArray[np.float64]:
    """Noise of mean 0 and deviation 1 whose amplitude is frequency ** -SLOPE."""
    rows, columns = np.fft.fftfreq(SHEET)[:, None], np.fft.rfftfreq(SHEET)[None, :]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(random.standard_normal((SHEET, SHEET))) * frequency**-SLOPE
    cloud = np.fft.irfft2(spectrum)
    return np.asarray((cloud - cloud.mean()) / cloud.std())


def _shapes(picture: Image.Image, random: np.random.Generator) -> None:
    draw = ImageDraw.Draw(picture)
    for _ in range(6):
        corners = random.integers(0, picture.width, (3, 2)).tolist()
        colour = tuple(random.integers(0, 256, 3).tolist())
        draw.polygon([tuple(corner) for corner in corners], fill=colour)
