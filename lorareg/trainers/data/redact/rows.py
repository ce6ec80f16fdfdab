"""A row of a dialogue dataset without personal data: its shape and its keys stay.

Every string of the row is redacted, under whatever key, and so is a number that reads as a phone or
an id. What an unusual key says about its value ("dob", "patient_name") counts as words before it.
Keys themselves are left; a key that holds personal data is an error, since to rename it could make
two keys one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from lorareg.trainers.data.redact import personal
from lorareg.trainers.data.redact.pseudonyms import Piece, redact

# Keys of dialogues and of preference pairs: what they hold is a text of its own.
PLAIN_KEYS = frozenset(
    ("instruction", "input", "output", "prompt", "completion", "messages", "conversations")
    + ("role", "content", "from", "value", "system", "history", "question", "chosen", "rejected")
)
SPEAKER_KEYS = frozenset(("role", "from"))
LONGEST_LEAD = 60  # characters of a key that can be a label
SHORTEST_NUMBER = 7  # digits; no phone or id is shorter


def redact_row(row: dict[str, Any]) -> tuple[dict[str, Any], Counter[str]]:
    """The row with placeholders, and how many pieces of each kind were replaced.

    >>> redact_row({"prompt": "Who?", "completion": "Ask jo@site.org.", "id": 7})[0]
    {'prompt': 'Who?', 'completion': 'Ask [EMAIL_1].', 'id': 7}
    """
    pieces = _answering(_pieces(row, ""))
    texts, replaced = redact(pieces)
    if not replaced:
        return row, replaced
    before = iter(pieces)
    after = iter(texts)
    changed: dict[str, Any] = _rebuilt(row, before, after)
    return changed, replaced


def keys_with_personal_data(value: Any) -> Iterator[str]:
    """Kinds of personal data in the keys of a row, at any depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from (span.kind for span in personal.find(key) if span.certain)
            yield from keys_with_personal_data(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys_with_personal_data(inner)


def _answering(said: Iterator[tuple[str, Piece]]) -> list[Piece]:
    """Each piece with the position of the one said before it; who speaks says nothing."""
    pieces: list[Piece] = []
    before: int | None = None
    for key, piece in said:
        pieces.append(replace(piece, answers=None if piece.lead else before))
        if key not in SPEAKER_KEYS:
            before = len(pieces) - 1
    return pieces


def _pieces(value: Any, key: str) -> Iterator[tuple[str, Piece]]:
    """The texts of a row in reading order, with their keys."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _pieces(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _pieces(inner, key)
    elif _is_text(value):
        lead = "" if key in PLAIN_KEYS or len(key) > LONGEST_LEAD else f"{_spoken(key)}: "
        yield key, Piece(str(value), lead)


def _is_text(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    return isinstance(value, str) or len(str(value)) >= SHORTEST_NUMBER


def _spoken(key: str) -> str:
    return key.replace("_", " ").replace("-", " ").strip()


def _rebuilt(value: Any, before: Iterator[Piece], after: Iterator[str]) -> Any:
    """The value with the texts of ``after`` in the places of those of ``before``."""
    if isinstance(value, dict):
        return {key: _rebuilt(inner, before, after) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rebuilt(inner, before, after) for inner in value]
    if not _is_text(value):
        return value
    old, new = next(before).text, next(after)
    return new if isinstance(value, str) or new != old else value
