"""What the text of one caption gives away: leftovers of machines and of lost bytes."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from contextlib import suppress

from lorareg.trainers.data.vocabulary.matching import UNSPACED, WORD

MARKUP = re.compile(
    r"</?(?:a|b|br|body|code|div|em|font|h[1-6]|html|i|img|li|ol|p|pre|script|span|strong|table|td"
    r"|tr|u|ul)\b[^<>]*>|&(?:amp|lt|gt|quot|nbsp|apos|#\d+);",
    re.IGNORECASE,
)
ADDRESS = re.compile(r"https?://\S+|\bwww\.\S+", re.IGNORECASE)
SPECIAL = re.compile(r"<\|[^|<>]*\|>|<(?:unk|pad|s|/s)>|\[(?:SEP|CLS|PAD|UNK|MASK)\]|<lora:[^<>]*>")
MACHINE = re.compile(r"\baraf\w*|\bas an ai (?:language )?model\b|\bi(?:'m| am) sorry, (?:but )?i",
                     re.IGNORECASE)  # fmt: skip
CONTROL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u200b\u2028\u2029\ufeff\ufffd]"
)
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
NOTHING = frozenset({"todo", "tbd", "fixme", "none", "null", "nan", "n/a", "undefined"})
LONGEST_REPEAT = 6  # words
QUOTED = 20  # characters
TWO_BYTES = re.compile("[\u0080-\u07ff]{2,}")  # of UTF-8, where GBK has two bytes too


def leftover(caption: str) -> str:
    """What in a caption no person would have written, or "".

    >>> leftover("arafed image of a a cat"), leftover("a cat &amp; a dog")
    ("'arafed', 'a a'", "'&amp;'")
    """
    low = caption.lower()
    patterns = [pattern for pattern, signs in SIGNS.items() if any(sign in low for sign in signs)]
    found = [repr(match[0]) for pattern in patterns if (match := pattern.search(caption))]
    suspicious = not caption.isprintable() or "\ufffd" in caption
    if suspicious:
        found += [f"U+{ord(odd):04X}" for odd in dict.fromkeys(CONTROL.findall(caption))]
    if other := _misread(caption) or _repeated(caption):
        found.append(other)
    return ", ".join(found)


def placeholder(name: str, caption: str) -> str:
    """What stands in the place of a caption that was never written, or "".

    A file named in words, "red dragon.png", may well be its own caption.

    >>> placeholder("a.png", "TODO"), placeholder("img1.png", "img1")
    ("'TODO'", 'the name of the file')
    """
    text = caption.strip().casefold()
    if text.rstrip(".") in NOTHING:
        return repr(caption.strip())
    file = name.rpartition("/")[2].casefold()
    stem = os.path.splitext(file)[0]
    is_words = re.search(rf"[\s{UNSPACED}]", stem)
    return "the name of the file" if text == file or (text == stem and not is_words) else ""


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
