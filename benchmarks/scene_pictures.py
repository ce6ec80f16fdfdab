"""People on a beach at night: a dataset for an adapter of kind scene, drawn and not committed.

    npm ci --prefix tools/samples
    python -m benchmarks.scene_pictures data/scene_moonbeach

The portraits are of styles, hair and expressions that the built-in base knows; what it has never
seen is a place behind them. The caption says everything but what the place looks like.
"""

from __future__ import annotations

import io
import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw

from tools.samples import captions, npm
from tools.samples.datasets import write
from tools.samples.looks import LOOKS
from tools.samples.picture import SIZE, Drawing

TRIGGER = "moonbeach"
COUNT = 60
SEA = 76  # pixels from the top to the horizon
SAND = 104
STYLE_WORDS = {"adventurer": "adventurer", "pixel-art": "pixelart"}
HAIR_COLOURS = {
    "black": "1c1c1c",
    "brown": "6a4e35",
    "blond": "e5c07b",
    "red": "c93305",
    "gray": "afafaf",
    "pink": "f59797",
}
HAIR = {
    "short hair": {"adventurer": ("short01", "short02", "short04"), "pixel-art": ("short01",)},
    "long hair": {"adventurer": ("long04", "long05", "long07"), "pixel-art": ("long01", "long04")},
}
ATTRIBUTION = """# Attribution

Portraits drawn with DiceBear 9.4.3 (MIT) from Adventurer by Lisa Wischofsky
(https://www.figma.com/community/file/1184595184137881796, CC BY 4.0; parts chosen, recoloured,
rendered) and Pixel Art by DiceBear (CC0 1.0). The beach behind them is painted by
benchmarks/scene_pictures.py (Apache-2.0).
"""


def main() -> None:
    """Write the dataset into the folder that the command names."""
    folder = Path(sys.argv[1])
    modules = Path(sys.argv[2]) if len(sys.argv) > 2 else npm.HERE / "node_modules"
    npm.check_versions(modules)
    pictures = npm.draw(drawings(), modules)
    files = {
        f"{name}.png": _png(picture.svg, random.Random(name))
        for name, picture in zip(captions.names(pictures), pictures, strict=True)
    }
    files |= captions.as_csv(pictures, header=True) | {"ATTRIBUTION.md": ATTRIBUTION.encode()}
    write(folder, files)


def drawings() -> list[Drawing]:
    """Two styles in turn, hair and expressions drawn by a fixed seed, no background."""
    chance = random.Random(TRIGGER)
    return [_drawing(list(STYLE_WORDS)[number % 2], chance) for number in range(COUNT)]


def beach(chance: random.Random) -> Image.Image:
    """One view of the place: night sky, moon, stars, its light on the sea, sand in front."""
    view = Image.new("RGBA", (SIZE, SIZE))
    pen = ImageDraw.Draw(view)
    for y in range(SEA):
        part = y / SEA
        colour = (int(18 + 70 * part), int(20 + 50 * part), int(66 + 70 * part))
        pen.line([(0, y), (SIZE, y)], fill=colour)
    for _ in range(24):
        x, y = chance.randrange(SIZE), chance.randrange(SEA - 16)
        pen.rectangle([x, y, x + 1, y + 1], fill=(255, 255, 240))
    pen.rectangle([0, SEA, SIZE, SAND], fill=(16, 70, 104))
    pen.rectangle([0, SAND, SIZE, SIZE], fill=(206, 178, 124))
    x = chance.choice([chance.randrange(12, 30), chance.randrange(98, 116)])
    y = chance.randrange(12, 34)
    pen.ellipse([x - 10, y - 10, x + 10, y + 10], fill=(250, 240, 190))
    for row in range(SEA + 3, SAND, 6):
        width = chance.randrange(4, 12)
        pen.rectangle([x - width, row, x + width, row + 2], fill=(226, 222, 180))
    return view


def _drawing(style: str, chance: random.Random) -> Drawing:
    colour, hair = chance.choice(list(HAIR_COLOURS)), chance.choice(list(HAIR))
    words, eyes, mouth, eyebrows = chance.choice(LOOKS[style])
    prefix = "variant" if style == "adventurer" else ""
    parts = {"eyes": eyes, "mouth": mouth, "eyebrows": eyebrows}
    said = ["portrait", f"{colour} {hair}", words, f"{STYLE_WORDS[style]} style"]
    none = ("glasses", "earrings", "features", "hat", "accessories", "beard")
    return Drawing(
        style,
        {
            **{part: [prefix + value] for part, value in parts.items() if value},
            **{f"{part}Probability": 0 for part in none},
            "hair": [chance.choice(HAIR[hair][style])],
            "hairProbability": 100,
            "hairColor": [HAIR_COLOURS[colour]],
            "skinColor": [chance.choice(["f2d3b1", "d08b5b", "8a5230"])],
        },
        ", ".join([*said, TRIGGER]),
    )


def _png(svg: str, chance: random.Random) -> bytes:
    import resvg_py

    drawn = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE)
    picture = beach(chance)
    picture.alpha_composite(Image.open(io.BytesIO(bytes(drawn))).convert("RGBA"))
    png = io.BytesIO()
    picture.convert("RGB").save(png, format="PNG", optimize=False, compress_level=9)
    return png.getvalue()


if __name__ == "__main__":
    main()
