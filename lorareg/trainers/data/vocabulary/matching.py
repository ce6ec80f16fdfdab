"""Finding words and phrases in captions, in English and Chinese alike.

A caption is cut into words: a run of letters and digits, or one character of a script that puts no
spaces between words. So ``light`` is not found in ``lightning``, ``LED`` is found in ``一盏LED灯``,
and ``荧光灯`` is found wherever its characters follow each other. Case, full-width forms and
composed or decomposed accents make no difference; between the words of a phrase a space, a hyphen,
an underscore or nothing are the same. An English word of three letters or more is also found with a
plural s.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Kind = Literal["term", "alias", "banned"]

# Han, kana, bopomofo, Hangul: written without spaces, or with particles joined to the word.
UNSPACED = (
    "\u1100-\u11ff\u3005-\u3007\u3040-\u312f\u3130-\u318f\u31a0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
WORD = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+")
JOINTS = str.maketrans("", "", "-_ \t\r\n\v\f\x85\u2028\u2029")
PLURAL = re.compile(r"[a-z]{2,}[a-rt-z]")


class _Folding(dict[int, str]):
    """Code point -> how it is compared: compatibility form, without case."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        folded = "'" if letter in "’‘" else unicodedata.normalize("NFKC", letter).casefold()
        self[code] = folded
        return folded


FOLDED = _Folding()


@dataclass(frozen=True)
class Words:
    """A text cut into words.

    Attributes:
        written: the text as it is.
        words: as they are compared.
        gaps: what stands before each word, without joints; the first one is empty.
    """

    written: str
    words: Sequence[str]
    _spans: Sequence[tuple[int, int]]
    _folded: str

    @classmethod
    def of(cls, text: str) -> Words:
        """Cut a text into words."""
        folded = text.translate(FOLDED)
        if not _is_composed(text):
            folded = "".join(map(_composed, _clusters(text)))
        found = [match.span() for match in WORD.finditer(folded)]
        return cls(text, [folded[start:end] for start, end in found], found, folded)

    def gap(self, index: int) -> str:
        """What stands between a word and the one before it, without joints."""
        start = self._spans[index - 1][1] if index else 0
        return self._folded[start : self._spans[index][0]].translate(JOINTS)

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Where the words from ``first`` to ``last`` stand in the text as written."""
        start, end = self._spans[first][0], self._spans[last][1]
        if self._places is None:
            return start, end
        return self._places[start][0], self._places[end - 1][1]

    @cached_property
    def _places(self) -> Sequence[tuple[int, int]] | None:
        """Of each compared character, where it is written; None where nothing changed length."""
        if len(self._folded) == len(self.written) and _is_composed(self.written):
            return None
        places, start = [], 0
        for cluster in _clusters(self.written):
            end = start + len(cluster)
            places += [(start, end)] * len(_composed(cluster))
            start = end
        return places


@dataclass(frozen=True)
class Phrase:
    """What is looked for.

    Attributes:
        kind: what it means to find it.
        written: as the vocabulary has it.
        meaning: the term it stands for; for a banned one the phrase itself.
    """

    kind: Kind
    written: str
    meaning: str


@dataclass(frozen=True)
class Match:
    """A phrase that was found.

    Attributes:
        start, end: where, in characters of the caption as written.
        plural: whether it was found with a plural s.
    """

    phrase: Phrase
    start: int
    end: int
    plural: bool


class Matcher:
    """Finds phrases in captions, the longest first, none within another."""

    def __init__(self, phrases: Iterable[Phrase]) -> None:
        exact: dict[tuple[str, ...], tuple[Phrase, bool]] = {}
        plurals: dict[tuple[str, ...], tuple[Phrase, bool]] = {}
        for phrase in phrases:
            key = key_of(phrase.written)
            if not key:
                continue
            exact.setdefault(key, (phrase, False))
            if has_plural(phrase.written):
                plurals.setdefault((*key[:-1], f"{key[-1]}s"), (phrase, True))
        self._by_first: dict[str, list[tuple[tuple[str, ...], Phrase, bool]]] = {}
        for key, (phrase, plural) in sorted(
            {**plurals, **exact}.items(), key=lambda item: -len(item[0])
        ):
            self._by_first.setdefault(key[0], []).append((key, phrase, plural))

    def find(self, text: str) -> list[Match]:
        """Every phrase in a text, in the order they stand."""
        words = Words.of(text)
        found: list[Match] = []
        index = 0
        while index < len(words.words):
            length = 1
            for key, phrase, plural in self._by_first.get(words.words[index], ()):
                if _stands_at(words, index, key):
                    length = len(key) // 2 + 1
                    found.append(Match(phrase, *words.span(index, index + length - 1), plural))
                    break
            index += length
        return found


def key_of(phrase: str) -> tuple[str, ...]:
    """How a phrase is compared: its words, and what stands between them; () if it has no word.

    >>> key_of("Sci-Fi lab"), key_of("ＬＥＤ灯")
    (('sci', '', 'fi', '', 'lab'), ('led', '', '灯'))
    """
    words = Words.of(phrase)
    parts = [part for i, word in enumerate(words.words) for part in (words.gap(i), word)]
    return tuple(parts[1:])


def has_plural(phrase: str) -> bool:
    """Whether a phrase is also found with an s: "beaker" is, "glass", "4k" and "灯" are not."""
    return bool(PLURAL.fullmatch(key_of(phrase)[-1])) and phrase[-1].isalpha()


def begins_with(text: str, phrase: str) -> bool:
    """Whether the first words of a text are the phrase.

    >>> begins_with("Sci-fi laboratory, glass", "sci-fi laboratory")
    True
    """
    key, words = key_of(phrase), Words.of(text)
    return bool(words.words) and _stands_at(words, 0, key)


def contains(text: str, phrase: str) -> bool:
    """Whether a phrase stands anywhere in a text, as whole words.

    >>> contains("a portrait of Zhangsan's dog", "zhangsan"), contains("zhangsans", "zhangsan")
    (True, False)
    """
    key = key_of(phrase)
    if not key:
        return phrase.strip() in text
    words = Words.of(text)
    return any(
        word == key[0] and _stands_at(words, index, key) for index, word in enumerate(words.words)
    )


def _stands_at(words: Words, index: int, key: Sequence[str]) -> bool:
    wanted = key[::2]
    if list(words.words[index : index + len(wanted)]) != list(wanted):
        return False
    return all(words.gap(index + i + 1) == gap for i, gap in enumerate(key[1::2]))


def _is_composed(text: str) -> bool:
    return text.isascii() or unicodedata.is_normalized("NFC", text)


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text).translate(FOLDED)


def _clusters(text: str) -> list[str]:
    """Characters with the marks that compose with them, also the parts of a Hangul syllable."""
    return re.findall(r".[\u0300-\u036f\u1160-\u11ff\u3099\u309a]*", text, re.DOTALL)
