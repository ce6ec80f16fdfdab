"""Pictures and captions: SVG drawings to pixels, named attributes to prompts."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

SIDE = 64
"""Side of every picture, pixels."""
STYLES = ("avataaars", "adventurer", "bigsmile", "micah", "pixelart")
HAIR_COLOURS = ("black", "brown", "blond", "red", "gray", "blue", "pink", "green")
BACKGROUNDS = ("white", "blue", "yellow", "green", "pink")
EMOJI_SETS = ("noto", "fluent-emoji-flat")
"""Emoji the autoencoder sees: Apache-2.0 and MIT. Share-alike sets stay out of the weights."""

_EMOJI_GROUPS_LEFT_OUT = {"flags", "symbols", "component"}
_ORDER_SHUFFLED = 0.25
_SHORT = 0.2
_STRANGE_WORD = 0.08
_ALSO = {
    "neutral": ("serious",),
    "winking": ("smiling, winking",),
    "screaming": ("screaming, wide eyes",),
    "surprised": ("surprised, wide eyes",),
    "grimacing": ("nervous",),
}
"""Other words people use for an expression; captions take each equally often."""


@dataclass(frozen=True)
class Portraits:
    """Captioned pictures: `images` uint8 (N, 64, 64, 3), one attribute table per picture."""

    images: np.ndarray
    attributes: tuple[dict[str, str], ...] = field(default_factory=tuple)

    def __len__(self) -> int:
        """Number of portraits."""
        return len(self.images)

    def save(self, path: Path) -> None:
        """Write one `.npz`; the attributes go in as JSON text."""
        np.savez(path, images=self.images, attributes=np.array(json.dumps(self.attributes)))

    @classmethod
    def load(cls, path: Path) -> Portraits:
        """Read what `save` wrote."""
        with np.load(path) as stored:
            return cls(stored["images"], tuple(json.loads(str(stored["attributes"]))))


def render(svg: str) -> np.ndarray:
    """Draw an SVG on white at twice the size and halve it: uint8 (64, 64, 3)."""
    import resvg_py

    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=2 * SIDE, height=2 * SIDE))
    drawing = Image.open(io.BytesIO(png)).convert("RGBA")
    canvas = Image.new("RGBA", drawing.size, "white")
    canvas.alpha_composite(drawing)
    return np.asarray(canvas.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def render_all(drawings: Sequence[str], threads: int = 2) -> np.ndarray:
    """Draw many SVGs: uint8 (N, 64, 64, 3), in order."""
    with ThreadPoolExecutor(threads) as pool:
        return np.stack(list(pool.map(render, drawings)))


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON records of `avatars.mjs`, one a line."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def portraits(records: Iterable[dict[str, Any]]) -> Portraits:
    """Render captioned records; the style joins the other attributes."""
    kept = list(records)
    attributes = tuple({"style": record["style"], **record["attributes"]} for record in kept)
    return Portraits(render_all([record["svg"] for record in kept]), attributes)


def emoji_drawings(node_modules: Path, name: str) -> list[str]:
    """SVGs of one emoji set with a margin of 1/16, without flags, symbols and skin tones.

    The set (`@iconify-json/<name>`) names its icons by slug; emojibase says which slugs are people,
    animals, food, places, activities or objects.
    """
    wanted = {_letters(entry["label"]) for entry in _emoji_entries(node_modules)}
    icons = json.loads((node_modules / "@iconify-json" / name / "icons.json").read_text("utf-8"))
    drawings = []
    for title, icon in sorted(icons["icons"].items()):
        if _letters(title) in wanted:
            width = icon.get("width", icons.get("width", 16))
            height = icon.get("height", icons.get("height", 16))
            box = f"{-width / 16} {-height / 16} {width * 9 / 8} {height * 9 / 8}"
            drawings.append(
                '<svg xmlns="http://www.w3.org/2000/svg" '
                f'xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box}">'
                f'<g color="#000">{icon["body"]}</g></svg>'
            )
    return drawings


def emoji_words(node_modules: Path) -> list[str]:
    """English words of the emoji labels: pieces for the tokenizer, strange words for captions."""
    labels = " ".join(entry["label"].lower() for entry in _emoji_entries(node_modules))
    return sorted(set(re.findall(r"[a-z]{3,}", labels)))


def caption(attributes: dict[str, str]) -> str:
    """The full prompt of a portrait.

    >>> caption({"hair_colour": "red", "hair": "long", "skin": "tan", "style": "micah"})
    'portrait, red long hair, tan skin, micah style'
    """
    return ", ".join(["portrait", *_phrases(attributes)])


def varied_caption(attributes: dict[str, str], random: Random, strange: Sequence[str] = ()) -> str:
    """A prompt as people write them: attributes left out, sometimes most, sometimes in any order.

    One in twelve carries a word from `strange` that says nothing about the picture, so that a word
    the base does not know (a trigger word) leaves its pictures alone until an adapter binds it.
    """
    keep = 0.35 if random.random() < _SHORT else 0.9
    kept = {name: value for name, value in sorted(attributes.items()) if random.random() < keep}
    if "expression" in kept:
        kept["expression"] = random.choice((kept["expression"], *_ALSO.get(kept["expression"], ())))
    phrases = _phrases(kept)
    if random.random() < _ORDER_SHUFFLED:
        random.shuffle(phrases)
    head = ["portrait"] if random.random() < 0.9 else []
    if strange and random.random() < _STRANGE_WORD:
        head.insert(random.randrange(len(head) + 1), random.choice(strange))
    return ", ".join(head + phrases)


def some_captions(tables: Sequence[dict[str, str]], strange: Sequence[str]) -> list[str]:
    """One varied caption per portrait, always the same: what the tokenizer learns from."""
    random = Random(0)
    return [varied_caption(table, random, strange) for table in tables]


def strange_words(tables: Sequence[dict[str, str]], words: Sequence[str]) -> list[str]:
    """Those of `words` that no caption uses."""
    said = {word for table in tables for word in re.findall(r"\w+", caption(table))}
    return [word for word in words if word not in said]


def _phrases(attributes: dict[str, str]) -> list[str]:
    """Attributes as phrases in the order of the model card; absent attributes say nothing."""
    get = attributes.get
    clothes = " ".join(filter(None, [get("clothes_colour"), get("clothes")]))
    if clothes == get("clothes_colour"):
        clothes += " clothes"
    phrases = [
        _hair(get("hair_colour"), get("hair"), get("headwear")),
        get("expression"),
        clothes,
        _suffixed(get("skin"), "skin"),
        get("eyewear"),
        get("beard"),
        _suffixed(get("style"), "style"),
        _suffixed(get("background"), "background"),
    ]
    return [phrase for phrase in phrases if phrase]


def _hair(colour: str | None, shape: str | None, headwear: str | None) -> str:
    worn = headwear or ("hair" if colour or shape else None)
    return " ".join(filter(None, [colour, None if headwear else shape, worn])) if worn else ""


def _suffixed(value: str | None, noun: str) -> str:
    return f"{value} {noun}" if value else ""


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower().replace("&", "and"))


def _emoji_entries(node_modules: Path) -> list[dict[str, Any]]:
    base = node_modules / "emojibase-data"
    groups = json.loads((base / "meta/groups.json").read_text("utf-8"))["groups"]
    entries: list[dict[str, Any]] = json.loads((base / "en/data.json").read_text("utf-8"))
    return [
        entry
        for entry in entries
        if groups.get(str(entry.get("group"))) not in {None, *_EMOJI_GROUPS_LEFT_OUT}
    ]
