"""What the tags of one caption say about each other: that both cannot be, or the same again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from lorareg.trainers.data.vocabulary.matching import FOLDED

# Tags that cannot both be true of one picture, or of one person. Compared as whole tags between
# commas, so that a sentence about "a night lamp by day" says nothing. Each row: the alternatives,
# each with its spellings. Kept to what is never both: a person may wink with a closed eye.
OF_PICTURE = (
    ("day daytime 白天 日间", "night nighttime at_night 夜晚 夜间 黑夜"),
    ("indoors indoor 室内", "outdoors outdoor 室外 户外"),
    ("monochrome greyscale grayscale black_and_white 黑白 单色 灰度",
     "colorful colourful full_color full_colour 彩色"),
    ("solo 1girl 1boy 1woman 1man 单人 一个女孩 一个男孩", "no_humans 无人"),
)  # fmt: skip
OF_PERSON = (
    ("long_hair 长发", "short_hair 短发", "bald 光头"),
    ("open_eyes eyes_open 睁眼 睁着眼", "closed_eyes eyes_closed 闭眼 闭着眼"),
    ("open_mouth mouth_open 张嘴", "closed_mouth mouth_closed 闭嘴"),
    ("smiling smile 微笑", "frowning frown 皱眉"),
    ("standing 站立 站着", "sitting 坐着", "lying lying_down 躺着"),
    ("young 年轻", "old elderly 年老"),
)
PLACES = {
    tag.replace("_", " "): (row, place)
    for row, alternatives in enumerate(OF_PICTURE + OF_PERSON)
    for place, each in enumerate(alternatives)
    for tag in each.split()
}
COMMAS = re.compile(r"[,，、;；\n]")
COUNTED = re.compile(r"(\d+) ?(?:girl|boy|woman|women|man|men|person|people|other)s?")
SEVERAL = re.compile(
    r"\b(?:two|three|four|five|several|many|multiple|group|crowd|couple|pair|people|both|other)\b"
    r"|两|双人|多人|三人|情侣|人群"
)

# Colours that captions name together for one thing ("silver hair, white hair") are one here.
COLOURS = (
    "black 黑", "white grey gray silver 白 灰 银", "blonde blond golden yellow 金 黄",
    "brown 棕 褐", "red orange ginger 红 橙", "blue aqua cyan teal turquoise 蓝 青", "green 绿",
    "purple violet 紫", "pink 粉",
)  # fmt: skip
SHADE = {word: number for number, row in enumerate(COLOURS) for word in row.split()}
THINGS = {"头发": "hair", "发": "hair", "眼睛": "eyes", "眼": "eyes", "背景": "background"}
COLOURED = re.compile(
    r"(?:(?:light|dark|pale|bright|deep|long|short) )*"
    rf"({'|'.join(w for w in SHADE if w.isascii())})"
    r" (hair|eyes|background)"
    rf"|[浅深淡]?([{''.join(w for w in SHADE if not w.isascii())}])色?的?({'|'.join(THINGS)})"
)
SEVERAL_COLOURS = re.compile(
    r"\b(?:two[ -]tone|multi[ -]?colou?red|gradient|streaked|colou?red inner|split[ -]colou?r|"
    r"ombre|highlights|heterochromia|rainbow|striped|checkered)\b"
    r"|渐变|挑染|双色|异色|彩色|条纹|格子"
)
DENIED = re.compile(r"(?:(?:no|without|not) |没有|无)(.+)")


def contradiction(caption: str) -> str:
    """Which tags of a caption exclude each other, or "".

    >>> contradiction("1girl, long hair, day, short_hair"), contradiction("a night lamp by day")
    ("'long hair' and 'short hair'", '')
    """
    tags = _tags(caption)
    said: dict[int, dict[int, str]] = {}
    for tag in tags:
        if tag in PLACES:
            row, place = PLACES[tag]
            said.setdefault(row, {}).setdefault(place, tag)
    clashes = [
        list(found.values())
        for row, found in said.items()
        if len(found) > 1 and (row < len(OF_PICTURE) or not _are_several(tags))
    ]
    if not _are_several(tags):
        clashes += [*_coloured_twice(tags), *_denied(tags)]
    elif "solo" in tags:
        clashes.append([tag for tag in tags if tag == "solo" or COUNTED.fullmatch(tag)])
    return "; ".join(" and ".join(map(repr, found)) for found in clashes if len(found) > 1)


def twice(caption: str) -> str:
    """Which tags of a caption stand there more than once, or "".

    >>> twice("1girl, smiling, Smiling"), twice("very, very good")
    ("'smiling'", '')
    """
    tags = _tags(caption)
    if _are_several(tags):
        return ""
    return ", ".join(repr(tag) for tag, times in Counter(tags).items() if times > 1)


def _tags(caption: str) -> list[str]:
    return [tag for part in COMMAS.split(caption) if (tag := _tag(part))]


def _tag(part: str) -> str:
    """A tag as tables have it: no case, no brackets and weights, spaces for underscores."""
    text = part.translate(FOLDED)
    if ":" in text:
        text = re.sub(r":[\d.]+\s*\)*\s*$", "", text)
    return " ".join(text.strip(" ()[]{}.。!").replace("_", " ").split())


def _are_several(tags: Sequence[str]) -> bool:
    """Whether tags are about several persons, who may well be unlike."""
    persons = sum(int(number[:6]) for tag in tags for number in COUNTED.findall(tag))
    return persons > 1 or any(SEVERAL.search(tag) for tag in tags)


def _coloured_twice(tags: Sequence[str]) -> Iterator[list[str]]:
    """Tags that give one thing two colours: a person has hair of one, unless a tag says so."""
    if any(SEVERAL_COLOURS.search(tag) for tag in tags):
        return
    said: dict[str, dict[int, str]] = {}
    for tag in tags:
        if found := COLOURED.fullmatch(tag):
            thing = found[2] or THINGS[found[4]]
            said.setdefault(thing, {})[SHADE[found[1] or found[3]]] = tag
    yield from (list(shades.values()) for shades in said.values())


def _denied(tags: Sequence[str]) -> Iterator[list[str]]:
    """Tags of something and of its absence: "hat, no hat"."""
    for tag in tags:
        if (found := DENIED.fullmatch(tag)) and found[1] in tags:
            yield [found[1], tag]
