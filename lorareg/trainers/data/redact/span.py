"""Where personal data is in a text, and how what overlaps is settled."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

# Full-width forms and typographic dashes and spaces, each for one plain character, so that offsets
# stay: "１３８" is a number too.
_FOLD = str.maketrans(
    {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F) if chr(code) not in "，；！？"}
    | dict.fromkeys(map(ord, "‐‑‒–—−"), "-")
    | dict.fromkeys(map(ord, "\u00a0\u2002\u2003\u2007\u2009\u202f\u3000"), " ")
    | {ord("’"): "'", ord("‘"): "'"}
)
# Characters of category Cf: joiners, direction marks, soft hyphens, byte order marks, tags.
_CF = "".join(
    chr(code)
    for code in (*range(0x10000), *range(0xE0000, 0xE0080))
    if unicodedata.category(chr(code)) == "Cf"
)
_INVISIBLE = re.compile(f"[{re.escape(_CF)}]")
_MARKS = "".join(chr(code) for code in range(0x10000) if unicodedata.combining(chr(code)))
# A character with what is written onto it, a Hangul syllable of several letters among them.
_CLUSTER = re.compile(
    f"[\u1100-\u115f][\u1160-\u11a7]?[\u11a8-\u11ff]?"
    f"|[\uac00-\ud7a3][\u11a8-\u11ff]?"
    f"|.(?:[{re.escape(_CF)}]*[{re.escape(_MARKS)}])*",
    re.S,
)


@dataclass(frozen=True)
class Span:
    """A piece of personal data.

    Attributes:
        start: first character.
        end: one past the last.
        kind: what it is, "NAME"; the word of its placeholder.
        certain: whether its form or the words around it leave no doubt. What is not certain is
            redacted, but a check does not warn of it.
    """

    start: int
    end: int
    kind: str
    certain: bool = True


def _always(value: str) -> bool:
    return bool(value)


@dataclass(frozen=True)
class Recogniser:
    """One form of personal data.

    Attributes:
        kind: what it finds.
        pattern: matches folded text; its group "value" is the personal part, if it has one.
        accept: whether a value is one: checksums and the like.
        certain: as in ``Span``.
    """

    kind: str
    pattern: re.Pattern[str]
    accept: Callable[[str], bool] = _always
    certain: bool = True

    def find(self, text: str) -> Iterator[Span]:
        """Every occurrence in folded text."""
        group = "value" if "value" in self.pattern.groupindex else 0
        for match in self.pattern.finditer(text):
            if self.accept(match[group]):
                yield Span(match.start(group), match.end(group), self.kind, self.certain)


def fold(text: str) -> str:
    """The text as the patterns read it, character for character.

    >>> fold("电话：１３８—００")
    '电话:138-00'
    """
    return text.translate(_FOLD)


@dataclass(frozen=True)
class Readable:
    """A text as it reads: composed (NFC), folded, without characters that nobody sees (Cf).

    Attributes:
        text: what patterns match.
        starts: for each of its characters where it begins in the original; empty if both have
            the same offsets.
        ends: where it ends there.
    """

    text: str
    starts: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()

    def original(self, span: Span) -> Span:
        """The span in the original text."""
        if not self.starts:
            return span
        return replace(span, start=self.starts[span.start], end=self.ends[span.end - 1])


def readable(text: str) -> Readable:
    """How a text reads, and where each character came from.

    >>> readable("Jo\u200bse\u0301").text == "Jos\u00e9"
    True
    """
    if text.isascii():
        return Readable(text)
    if unicodedata.is_normalized("NFC", text) and not _INVISIBLE.search(text):
        return Readable(fold(text))
    letters: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for match in _CLUSTER.finditer(text):
        composed = unicodedata.normalize("NFC", _INVISIBLE.sub("", match[0]))
        letters.append(composed)
        starts += [match.start()] * len(composed)
        ends += [match.end()] * len(composed)
    return Readable(fold("".join(letters)), tuple(starts), tuple(ends))


def settle(spans: Iterable[Span]) -> list[Span]:
    """Disjoint spans in order: the longest wins, at equal length the earlier one of the iterable.

    A span that sticks out of a longer one extends it: no character that anything recognised as
    personal stays.

    >>> settle([Span(0, 9, "PHONE"), Span(5, 12, "NAME"), Span(1, 3, "IP")])
    [Span(start=0, end=12, kind='PHONE', certain=True)]
    """
    kept: list[Span] = []
    group: list[tuple[int, Span]] = []  # spans that overlap, with their rank in the iterable
    end = 0
    for rank, span in sorted(enumerate(spans), key=lambda ranked: ranked[1].start):
        if group and span.start >= end:
            kept.append(_joined(group))
            group = []
        end = max(end, span.end) if group else span.end
        group.append((rank, span))
    return [*kept, _joined(group)] if group else kept


def _joined(group: Sequence[tuple[int, Span]]) -> Span:
    _, best = min(group, key=lambda ranked: (ranked[1].start - ranked[1].end, ranked[0]))
    spans = [span for _, span in group]
    certain = any(span.certain and span.kind == best.kind for span in spans)
    start, end = min(span.start for span in spans), max(span.end for span in spans)
    return Span(start, end, best.kind, certain)
