"""Sixty-four faces of one black line emoji set, for a second style adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lorareg.errors import NotFoundError
from tools.samples.npm import read_json
from tools.samples.picture import BACKGROUNDS, SIZE, Picture, background_word

TRIGGER = "emojiline style"
ICONS = "@iconify-json/fluent-emoji-high-contrast"
VARIATION_SELECTOR = "FE0F"
MARGIN = 2
"""Empty border, in units of the drawing (32 wide)."""

LABELS: Sequence[str] = (
    *("grinning face", "grinning face with big eyes", "beaming face with smiling eyes"),
    *("grinning squinting face", "face with tears of joy", "slightly smiling face"),
    *("upside-down face", "winking face", "smiling face with halo"),
    *("smiling face with heart-eyes", "star-struck", "kissing face", "face savoring food"),
    *("face with tongue", "zany face", "thinking face", "zipper-mouth face", "neutral face"),
    *("smirking face", "face with rolling eyes", "grimacing face", "sleeping face"),
    *("face with medical mask", "cowboy hat face", "partying face"),
    *("smiling face with sunglasses", "nerd face", "face with monocle", "worried face"),
    *("hushed face", "crying face", "loudly crying face", "angry face", "clown face"),
    *("robot", "alien", "grinning cat", "smiling cat with heart-eyes", "weary cat"),
    *("crying cat", "baby", "child", "boy", "girl", "man", "woman", "older person"),
    *("old man", "old woman", "monkey face", "dog face", "cat face", "wolf", "fox"),
    *("lion", "tiger face", "cow face", "pig face", "mouse face", "rabbit face", "bear"),
    *("koala", "panda", "frog"),
)
"""Names as Unicode's CLDR gives them: faces of people, cats, robots and animals."""


def pictures(modules: Path) -> list[Picture]:
    """Every emoji once, on white and on the coloured backgrounds in turn."""
    bodies = icon_bodies(modules)
    missing = [label for label in LABELS if label not in bodies]
    if missing:
        raise NotFoundError(f"{ICONS} has no drawing of {', '.join(missing)}")
    return [
        picture(label, bodies[label], mixed_background(index)) for index, label in enumerate(LABELS)
    ]


def icon_bodies(modules: Path) -> dict[str, str]:
    """The SVG body of every emoji of the set, by its English name."""
    icons = read_json(modules, f"{ICONS}/icons.json")["icons"]
    names = {bare(code): name for code, name in read_json(modules, f"{ICONS}/chars.json").items()}
    emoji = read_json(modules, "emojibase-data/en/data.json")
    coded = [(entry["label"], bare(entry["hexcode"])) for entry in emoji]
    return {label: icons[names[code]]["body"] for label, code in coded if code in names}


def bare(hexcode: str) -> str:
    """A hexcode without the variation selector, which the two packages treat differently.

    >>> bare("263A-FE0F")
    '263A'
    """
    return "-".join(part for part in hexcode.upper().split("-") if part != VARIATION_SELECTOR)


def mixed_background(index: int) -> str:
    """White for every other picture, and the colours in turn for the rest.

    >>> [mixed_background(index) for index in range(6)]
    ['white', 'blue', 'white', 'yellow', 'white', 'green']
    """
    return background_word(1 + index // 2 % 4) if index % 2 else "white"


def picture(label: str, body: str, background: str) -> Picture:
    """One emoji in black line on a plain background."""
    box = f"{-MARGIN} {-MARGIN} {32 + 2 * MARGIN} {32 + 2 * MARGIN}"
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" width="{SIZE}" height="{SIZE}">'
        f'<rect x="{-MARGIN}" y="{-MARGIN}" width="100%" height="100%"'
        f' fill="#{BACKGROUNDS[background]}"/><g color="#000000">{body}</g></svg>'
    )
    return Picture(svg, f"{label}, {TRIGGER}, {background} background")
