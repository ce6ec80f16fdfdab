"""Finding assets by what people call them: over the catalog's rows, no manifest is read."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lorareg.registry.catalog import Row


@dataclass(frozen=True)
class Hit:
    """An asset that every word fits.

    Attributes:
        places: word -> the first key that holds it.
        score: lower is nearer.
    """

    row: Row
    places: dict[str, str]
    score: int


def search(rows: Iterable[Row], text: str) -> list[Hit]:
    """Assets in which every word stands, somewhere; nearest first, then by name.

    A word counts by the first of these it stands in: the whole name, the name, the trigger, the
    titles, base, owners, licence or task, the description. Upper and lower case, full and half
    width are alike; a word may be any part of a word, so that Chinese needs no spaces.
    """
    words = list(dict.fromkeys(normal(text).split()))
    hits = [hit for row in rows if (hit := _hit(row, words))] if words else []
    return sorted(hits, key=lambda hit: (hit.score, hit.row.asset))


def normal(text: str) -> str:
    """One form for what reads alike.

    >>> normal("ＺＨＡＮＧ San")
    'zhang san'
    """
    return unicodedata.normalize("NFKC", text).casefold()


def _hit(row: Row, words: list[str]) -> Hit | None:
    keys = [(score, key, normal(told)) for score, key, told in _keys(row)]
    name = normal(row.asset)
    places, score = {}, 0
    for word in words:
        found = next(((rank, key) for rank, key, told in keys if word in told), None)
        if found is None:
            return None
        whole = word in (name, *name.split("/"))
        places[word] = found[1]
        score += 0 if whole else found[0]
    return Hit(row, places, score)


def _keys(row: Row) -> Iterator[tuple[int, str, str]]:
    """What can be searched, the nearest first: (score, key, text)."""
    yield 1, "asset", row.asset
    yield 2, "trigger", row.trigger or ""
    yield 3, "title", "\n".join(row.title.values())
    yield 4, "base", row.base
    yield 4, "owners", "\n".join(row.owners)
    yield 4, "license", row.license
    yield 4, "task", row.task
    yield 4, "visibility", row.visibility
    yield 5, "description", row.description
