"""Fonts for a title that may be Chinese: those that are here, and what they can write."""

from __future__ import annotations

from functools import cache

LATIN = "DejaVu Sans"  # comes with matplotlib
CHINESE = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN",
    "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "PingFang SC", "Hiragino Sans GB", "Heiti SC",
    "Microsoft YaHei", "SimHei", "Noto Sans CJK JP", "Arial Unicode MS", "Droid Sans Fallback",
)  # fmt: skip


def families() -> list[str]:
    """Families to draw with, each for what those before it have not."""
    return [LATIN, *_installed()]


def can_write(text: str) -> bool:
    """Whether the fonts here have every character; the others would be empty boxes."""
    from matplotlib import font_manager

    known: set[int] = set()
    for family in families():
        known |= _characters(font_manager.findfont(family))
    return {ord(letter) for letter in text} <= known


@cache
def _installed() -> tuple[str, ...]:
    from matplotlib import font_manager

    here = {font.name for font in font_manager.fontManager.ttflist}
    return tuple(name for name in CHINESE if name in here)


@cache
def _characters(file: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(file).get_charmap())
