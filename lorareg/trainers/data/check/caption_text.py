"""What the text of one caption gives away: tags that exclude each other, leftovers of machines."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from contextlib import suppress

from lorareg.trainers.data.vocabulary.matching import FOLDED, UNSPACED, WORD

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

MARKUP = re.compile(
    r"</?(?:a|b|br|body|code|div|em|font|h[1-6]|html|i|img|li|ol|p|pre|script|span|strong|table|td"
    r"|tr|u|ul)\b[^<>]*>|&(?:amp|lt|gt|quot|nbsp|apos|#\d+);",
    re.IGNORECASE,
)
ADDRESS = re.compile(r"https?://\S+|\bwww\.\S+", re.IGNORECASE)
SPECIAL = re.compile(r"<\|[^|<>]*\|>|<(?:unk|pad|s|/s)>|\[(?:SEP|CLS|PAD|UNK|MASK)\]|<lora:[^<>]*>")
MACHINE = re.compile(r"\baraf\w*|\bas an ai (?:language )?model\b|\bi(?:'m| am) sorry, (?:but )?i",
                     re.IGNORECASE)  # fmt: skip
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u200b\ufeff\ufffd]")
DOUBLED = re.compile(
    r"\b(a|an|the|of|is|in|on|with|and|to|at|by|for|from|this)\s+\1\b", re.IGNORECASE
)
# Without one of these a pattern is not searched for: of 10,000 captions that saves 0.3 s.
SIGNS = {
    MACHINE: ("araf", "as an ai", "sorry"),
    SPECIAL: ("<", "["),
    MARKUP: ("<", "&"),
    ADDRESS: ("://", "www."),
}
LONGEST_REPEAT = 6  # words
QUOTED = 20  # characters
TWO_BYTES = re.compile("[\u0080-\u07ff]{2,}")  # of UTF-8, where GBK has two bytes too


def contradiction(caption: str) -> str:
    """Which tags of a caption exclude each other, or "".

    >>> contradiction("1girl, long hair, day, short_hair"), contradiction("a night lamp by day")
    ("'long hair' and 'short hair'", '')
    """
    tags = [tag for part in COMMAS.split(caption) if (tag := _tag(part))]
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
    if "solo" in tags and _are_several(tags):
        clashes.append([tag for tag in tags if tag == "solo" or COUNTED.fullmatch(tag)])
    return "; ".join(" and ".join(map(repr, found)) for found in clashes if len(found) > 1)


def leftover(caption: str) -> str:
    """What in a caption no person would have written, or "".

    >>> leftover("arafed image of a a cat"), leftover("a cat &amp; a dog")
    ("'arafed', 'a a'", "'&amp;'")
    """
    low = caption.lower()
    patterns = [pattern for pattern, signs in SIGNS.items() if any(sign in low for sign in signs)]
    found = [repr(match[0]) for pattern in patterns if (match := pattern.search(caption))]
    suspicious = not caption.isprintable() or "\ufffd" in caption
    if suspicious and (control := CONTROL.search(caption)):
        found.append(f"U+{ord(control[0]):04X}")
    if other := _misread(caption) or _repeated(caption):
        found.append(other)
    return ", ".join(found)


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


def _misread(caption: str) -> str:
    """Text that was read in another encoding than it was written in, and what it says.

    Such as 三 in UTF-8 read as Windows-1252: "ä¸‰". Or 小猫 in GBK, whose bytes are valid UTF-8 by
    chance, "Сè": no language has letters of two scripts (here Cyrillic and Latin) side by side.
    """
    if caption.isascii():
        return ""
    with suppress(UnicodeError):
        return f"UTF-8 read as Windows-1252: {caption.encode('cp1252').decode()[:QUOTED]!r}"
    for run in TWO_BYTES.findall(caption):
        scripts = {unicodedata.name(letter, "?").split()[0] for letter in run}
        with suppress(UnicodeError):
            if len(scripts) > 1 and run.isalpha():
                return f"GBK that is valid UTF-8 by chance: {run.encode().decode('gb2312')!r}"
    return ""


def _repeated(caption: str) -> str:
    """Words that stand twice by mistake ("a a"), or a few words three times in a row."""
    words = WORD.findall(caption.lower())
    if len(set(words)) == len(words):
        return ""
    if doubled := DOUBLED.search(caption):
        return repr(doubled[0])
    if len(set(words)) > len(words) - 3:
        return ""
    for length in range(1, LONGEST_REPEAT + 1):
        times = 4 if length == 1 else 3  # "very, very, very" is a person's
        for start in range(len(words) - times * length + 1):
            unit = words[start : start + length]
            if words[start : start + times * length] == unit * times and _is_telling(unit):
                return f"{times} times {' '.join(unit)!r}"
    return ""


def _is_telling(unit: Sequence[str]) -> bool:
    """Whether a repeat is no word by itself: 哈哈哈 is one, and so is the number 1 1 1."""
    letters = [word for word in unit if not word.isdigit()]
    if all(re.fullmatch(f"[{UNSPACED}]", word) for word in letters):
        return len(set(letters)) > 1
    return bool(letters)
