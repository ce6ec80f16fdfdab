"""One picture of a dataset: up to 48 of its pictures, small, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from lorareg.errors import InvalidFileError
from lorareg.registry.files import replaced_atomically
from lorareg.trainers.data.copies import colour

MOST = 48
COLUMNS = 8
CELL = 112  # pixels
GUTTER = 8  # pixels
COLOURS = 256  # of a palette: a third of the bytes of true colour
UNREADABLE = "#dddddd"


def draw(pictures: Sequence[Path], out: Path) -> None:
    """Write a contact sheet as PNG; equal pictures give equal bytes.

    Args:
        pictures: of the dataset, in order; evenly chosen ones are shown. One that cannot be decoded
            is a grey cell.
        out: the PNG, which is replaced at once or not at all.

    Raises:
        LoraregError: it cannot be written.
    """
    shown = chosen(pictures)
    columns = max(1, min(COLUMNS, len(shown)))
    rows = max(1, -(-len(shown) // columns))
    pitch = CELL + GUTTER
    sheet = Image.new("RGB", (columns * pitch + GUTTER, rows * pitch + GUTTER), "white")
    for number, path in enumerate(shown):
        small = _thumbnail(path)
        left = GUTTER + number % columns * pitch + (CELL - small.width) // 2
        top = GUTTER + number // columns * pitch + (CELL - small.height) // 2
        sheet.paste(small, (left, top))
    with replaced_atomically(out) as stream:
        _few_colours(sheet).save(stream, format="PNG", optimize=True)


def chosen(pictures: Sequence[Path]) -> list[Path]:
    """At most 48, evenly spread, the first always among them."""
    count = min(MOST, len(pictures))
    return [pictures[number * len(pictures) // count] for number in range(count)]


def _thumbnail(path: Path) -> Image.Image:
    """A picture within a cell, its aspect kept."""
    try:
        image = colour.read(path, at_least=2 * CELL).image
    except InvalidFileError:
        return Image.new("RGB", (CELL, CELL), UNREADABLE)
    scale = CELL / max(image.size)
    size = [max(1, round(side * scale)) for side in image.size]
    return image.resize((size[0], size[1]), Image.Resampling.LANCZOS)


def _few_colours(sheet: Image.Image) -> Image.Image:
    """With a palette of its own, dithered, since skin and sky show steps otherwise."""
    return sheet.quantize(COLOURS, dither=Image.Dither.FLOYDSTEINBERG)
