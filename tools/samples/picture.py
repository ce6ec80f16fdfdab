"""A picture of a dataset: its drawing, its caption, and the bytes of its PNG."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

SIZE = 128
"""Width and height of every picture, pixels: twice the built-in base's, so that cropping and
resizing have something to do."""

BACKGROUNDS: dict[str, str] = {
    "white": "ffffff",
    "blue": "5da8f0",
    "yellow": "ffd94d",
    "green": "7ccf7c",
    "pink": "f7b0c8",
}
"""The backgrounds the built-in base knows, by the word its captions use (RRGGBB)."""

Options = dict[str, list[str] | int]


@dataclass(frozen=True)
class Drawing:
    """What to draw: a DiceBear style and the value of each of its parts."""

    style: str
    options: Options
    caption: str


@dataclass(frozen=True)
class Picture:
    """A drawing as SVG and the caption that is true of it."""

    svg: str
    caption: str


def background_word(index: int) -> str:
    """The background of the picture at ``index``, each as often as the others.

    >>> [background_word(index) for index in range(6)]
    ['white', 'blue', 'yellow', 'green', 'pink', 'white']
    """
    return list(BACKGROUNDS)[index % len(BACKGROUNDS)]


def render(svg: str) -> bytes:
    """The PNG of ``svg``, ``SIZE`` pixels square, RGB, on white where it is transparent.

    Equal drawings give equal bytes: fixed compression, no time stamp, no metadata.
    """
    import resvg_py

    drawn = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE)
    layer = Image.open(io.BytesIO(bytes(drawn))).convert("RGBA")
    picture = Image.new("RGBA", layer.size, "white")
    picture.alpha_composite(layer)
    png = io.BytesIO()
    picture.convert("RGB").save(png, format="PNG", optimize=False, compress_level=9)
    return png.getvalue()
