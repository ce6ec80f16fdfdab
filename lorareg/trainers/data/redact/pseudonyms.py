"""One conversation without personal data: the same value gets the same placeholder."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from lorareg.trainers.data.redact import personal
from lorareg.trainers.data.redact.people import People
from lorareg.trainers.data.redact.span import Span, readable, settle

PLACEHOLDER = re.compile(r"\[([A-Z][A-Z_]{1,20})_(\d{1,6})\]")
# A placeholder is hidden from the recognisers behind a character of no script, of the same length,
# so that no words are joined across it and none is found in it again.
_HIDDEN = "\ue000"


@dataclass(frozen=True)
class Piece:
    """A text of a conversation.

    Attributes:
        text: what is redacted.
        lead: words before it that tell what it is, such as "date of birth: "; never changed.
        answers: which piece of the conversation it answers, by position.
    """

    text: str
    lead: str = ""
    answers: int | None = None


def redact(pieces: Sequence[Piece]) -> tuple[list[str], Counter[str]]:
    """Texts with placeholders, and how many pieces of each kind were replaced.

    It goes on until nothing more is found, so a second call changes nothing.

    >>> redact([Piece("I am John Carter, +1 415 555 0132."), Piece("John? 415-555-0132?")])[0]
    ['I am [NAME_1], [PHONE_1].', '[NAME_1]? [PHONE_1]?']
    """
    numbering = _Numbering(piece.text for piece in pieces)
    people = People()
    texts = [piece.text for piece in pieces]
    replaced: Counter[str] = Counter()
    while True:
        found = [
            _found(text, piece.lead, "" if piece.answers is None else texts[piece.answers])
            for text, piece in zip(texts, pieces, strict=True)
        ]
        for text, spans in zip(texts, found, strict=True):
            people.meet(text[span.start : span.end] for span in spans if span.kind == "NAME")
        found = [
            settle([*spans, *people.mentions(_hidden(text))])
            for text, spans in zip(texts, found, strict=True)
        ]
        if not any(found):
            return texts, replaced
        replaced.update(span.kind for spans in found for span in spans)
        texts = [
            _replaced(text, spans, numbering, people)
            for text, spans in zip(texts, found, strict=True)
        ]


def _hidden(text: str) -> str:
    return PLACEHOLDER.sub(lambda match: _HIDDEN * len(match[0]), text)


def _found(text: str, lead: str, question: str) -> list[Span]:
    """Spans within ``text``, found as if its lead stood before it and the question was asked."""
    begin = len(lead)
    spans = personal.find(lead + _hidden(text), _hidden(question))
    moved = (
        Span(max(span.start - begin, 0), span.end - begin, span.kind, span.certain)
        for span in spans
        if span.end > begin
    )
    return [part for span in moved for part in _around_placeholders(text, span)]


def _around_placeholders(text: str, span: Span) -> Iterator[Span]:
    """The span without placeholders that it reaches over."""
    at = span.start
    for match in PLACEHOLDER.finditer(text, span.start, span.end):
        if match.start() > at:
            yield Span(at, match.start(), span.kind, span.certain)
        at = match.end()
    if at < span.end:
        yield Span(at, span.end, span.kind, span.certain)


def _replaced(text: str, spans: Sequence[Span], numbering: _Numbering, people: People) -> str:
    parts, at = [], 0
    for span in spans:
        value = text[span.start : span.end]
        key = people.identify(value) if span.kind == "NAME" else identity(span.kind, value)
        parts += [text[at : span.start], numbering.placeholder(span.kind, key)]
        at = span.end
    return "".join([*parts, text[at:]])


class _Numbering:
    """Placeholders of one conversation, from 1 for each kind in order of appearance."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Numbers that the conversation already uses are not given again."""
        self._last: Counter[str] = Counter()
        self._known: dict[tuple[str, str], str] = {}
        for text in texts:
            for kind, number in PLACEHOLDER.findall(text):
                self._last[kind] = max(self._last[kind], int(number))

    def placeholder(self, kind: str, key: str) -> str:
        """The placeholder of a value, known by its kind and key."""
        if (kind, key) not in self._known:
            self._last[kind] += 1
            self._known[kind, key] = f"[{kind}_{self._last[kind]}]"
        return self._known[kind, key]


def identity(kind: str, value: str) -> str:
    """What two ways of writing the same value have in common.

    >>> identity("PHONE", "+1 (415) 555-0132") == identity("PHONE", "415.555.0132")
    True
    """
    plain = unicodedata.normalize("NFKC", readable(value).text).casefold()
    if kind == "PHONE":
        return _national(plain)
    if kind == "IP":
        with suppress(ValueError):  # it may have grown by a neighbour that overlapped it
            return ipaddress.ip_address(plain).compressed
    if kind in ("EMAIL", "URL"):
        return plain.replace(" ", "").rstrip("/")
    if kind == "BIRTHDATE" and (day := re.fullmatch(r"(\d{4})\D+(\d{1,2})\D+(\d{1,2})\D?", plain)):
        return "-".join(str(int(part)) for part in day.groups())
    return "".join(character for character in plain if character.isalnum())


def _national(phone: str) -> str:
    """Digits without the prefix of the two countries that most often leave it out."""
    digits = "".join(character for character in phone if character.isdigit())
    digits = digits.removeprefix("00") if not phone.startswith("+") else digits
    if len(digits) == 13 and digits.startswith("86"):
        return digits[2:]
    if len(digits) == 11 and digits.startswith("1") and re.match(r"(?:\+|00)?1\D|\+1", phone):
        return digits[1:]
    return digits
