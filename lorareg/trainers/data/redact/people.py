"""Who is meant by a name in a conversation: "Li Hua", then "Hua" or "Mr Li" is one person."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from lorareg.trainers.data.redact.chinese_names import is_word, surname
from lorareg.trainers.data.redact.english_names import is_telling
from lorareg.trainers.data.redact.span import Span, readable
from lorareg.trainers.data.redact.words import section

_HAN = "[\u4e00-\u9fff]"
_COMPOUND, _NO_NAMES = section("compound surnames"), section("no names")
# Where a name that is a word too is a name: 高兴您好, 高兴，.
_ADDRESSED = r"(?=[您你]?好|先生|女士|[,，、:!！?？。]|\s*$)"
_HAN_NAME = re.compile("[\u4e00-\u9fff]{2,4}")


class People:
    """The people of one conversation, each known by the longest form of the name."""

    def __init__(self) -> None:
        self._full: dict[str, tuple[str, ...]] = {}  # identity -> parts of the name
        self._patterns: dict[str, list[re.Pattern[str]]] = {}

    def meet(self, names: Iterable[str]) -> None:
        """Take note of names, as they are written."""
        for name in names:
            parts = _parts(name)
            self._full.setdefault(" ".join(parts), parts)

    def identify(self, name: str) -> str:
        """One key for all names of a person.

        A part of a name means the one person who has it; where two have it, it is a third, since
        to guess would join two people in one placeholder.
        """
        parts = _parts(name)
        key = " ".join(parts)
        longer = [
            other
            for other, theirs in self._full.items()
            if other != key
            and (
                "".join(parts) in theirs or (len(theirs) > len(parts) and set(parts) <= set(theirs))
            )
        ]
        if cut := [other for other in self._full if _is_cut(parts, self._full[other])]:
            longer = cut
        longest = [other for other in longer if not any(self._within(other, o) for o in longer)]
        return longest[0] if len(longest) == 1 else key

    def _within(self, one: str, other: str) -> bool:
        theirs, mine = self._full[other], self._full[one]
        return one != other and (set(mine) < set(theirs) or _is_cut(mine, theirs))

    def mentions(self, text: str) -> Iterator[Span]:
        """Where known people are named again, fully or in part, unnoticed by the recognisers."""
        reading = readable(text)
        for form in self._forms():
            for match in form.finditer(reading.text):
                yield reading.original(Span(match.start(), match.end(), "NAME"))

    def _forms(self) -> Iterator[re.Pattern[str]]:
        for name, parts in self._full.items():
            if name not in self._patterns:
                forms = _han_forms(parts) if re.search(_HAN, name) else _latin_forms(parts)
                self._patterns[name] = [re.compile(form) for form in forms]
            yield from self._patterns[name]


def _han_forms(parts: tuple[str, ...]) -> Iterator[str]:
    """A Chinese name and its given part; one that is a word too, where somebody is addressed."""
    family = surname(parts[0]) == parts[0]
    whole = "".join(parts) if family or len(parts) == 1 else "[·•・‧]".join(parts)
    pieces = [whole] if family else [whole, *(part for part in parts if len(part) > 2)]
    if family and len(parts) == 2 and len(parts[1]) == 2:
        pieces.append(parts[1])
    for piece in pieces:
        if len(piece) > 1 and piece not in _COMPOUND:
            yield piece if not is_word(piece) else rf"(?<!{_HAN}){piece}{_ADDRESSED}"


def _latin_forms(parts: tuple[str, ...]) -> Iterator[str]:
    """A name in Latin script and each of its parts, capitalised."""
    if len(parts) > 1:
        yield _loosely(r"\s+".join(map(re.escape, parts)))
    for part in parts:
        first, rest = re.escape(part[:1].upper()), re.escape(part[1:])
        if is_telling(part):
            yield rf"(?<!\w){first}(?i:{rest})(?!\w)"
        elif len(part) > 2 and part in _NO_NAMES:
            yield rf"(?:(?<![^\n])|(?<=[.!?,] )|(?<=Hi )|(?<=Dear ))(?:{first}{rest})(?=[,!.]|$)"
        elif len(part) > 2:
            yield rf"(?<!\w){first}{rest}(?!\w)"


def _is_cut(parts: tuple[str, ...], whole: tuple[str, ...]) -> bool:
    """Whether a Chinese name is another one of which a character was missed: 张晓, 张晓明."""
    if len(parts) != 2 or len(whole) != 2 or not _HAN_NAME.fullmatch("".join(whole)):
        return False
    same = parts[0] == whole[0] and parts[1] != whole[1]
    return same and whole[1].startswith(parts[1])


def _loosely(form: str) -> str:
    return rf"(?<!\w)(?i:{form})(?!\w)"


def _parts(name: str) -> tuple[str, ...]:
    """Words of a name without initials and titles; surname and given name of a Chinese one."""
    plain = unicodedata.normalize("NFKC", readable(name).text).casefold().strip()
    if re.fullmatch("[\u4e00-\u9fff]+", plain):
        family = surname(plain)
        return (family, plain[len(family) :]) if len(plain) > len(family) > 0 else (plain,)
    words = [word.strip(".,'") for word in re.split(r"[\s·•・‧]+", plain)]
    return tuple(word for word in words if len(word) > 1) or (plain,)
