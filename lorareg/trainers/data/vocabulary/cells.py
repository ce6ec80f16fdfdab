"""Caption files with some captions written anew: every other byte stays as it is."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping

from lorareg.trainers.data.caption_rows import (
    TEXT_COLUMNS,
    caption_columns,
    csv_rows,
    first_text,
)

CELL = re.compile(r' *("(?:[^"]|"")*"|[^,]*)(?:,|\Z)')
JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')

Turn = Callable[[str], str]
Pieces = list[tuple[str, str]]
"""Rows or lines of a file with their ends: as they are, and as they shall be."""


def of_sidecars(table: Mapping[str, str], turn: Turn) -> Pieces:
    """A table of all captions."""
    rows: Pieces = [("file_name,text\n",) * 2]
    for name, text in table.items():
        caption = text.strip()
        before, after = (f"{_cell(name)},{_cell(words)}\n" for words in (caption, turn(caption)))
        rows.append((before, after))
    return rows


def of_csv(text: str, turn: Turn) -> Pieces:
    """Rows of a CSV that has no bad line."""
    pieces: Pieces = []
    column: int | None = None
    for row in csv_rows(text):
        after, is_header = row.written, False
        if any(cell.strip() for cell in row.cells):
            if column is None:
                (_, column), is_header = caption_columns(row.cells)
            caption = row.cells[column]
            if not is_header and (turned := turn(caption)) != caption:
                after = _with_cell(row.written, column, turned)
        pieces.append((row.written, after))
    return pieces


def _with_cell(written: str, column: int, caption: str) -> str:
    """A row with one cell written anew, in quotes where it was or where it has to be."""
    start, end = [match.span(1) for match in CELL.finditer(written.rstrip("\r\n"))][column]
    return written[:start] + _cell(caption, quoted=written[start] == '"') + written[end:]


def _cell(text: str, *, quoted: bool = False) -> str:
    if quoted or text.startswith((" ", '"')) or any(letter in text for letter in ",\r\n"):
        return '"' + text.replace('"', '""') + '"'
    return text


def of_jsonl(text: str, turn: Turn) -> Pieces:
    """Lines of a ``metadata.jsonl`` that has no bad one."""
    pieces: Pieces = []
    for line in lines(text):
        after = line
        if line.strip() and (found := first_text(json.loads(line), TEXT_COLUMNS)):
            key, caption = found
            if (turned := turn(caption)) != caption:
                after = _with_value(line, key, turned)
        pieces.append((line, after))
    return pieces


def _with_value(line: str, key: str, turned: str) -> str:
    """A row with one string written anew: the one that makes the row what it shall be."""
    wanted = json.dumps({**json.loads(line), key: turned})
    candidates = (
        line[: m.start()] + json.dumps(turned, ensure_ascii="\\u" in m[0]) + line[m.end() :]
        for m in JSON_STRING.finditer(line)
    )
    return next(row for row in candidates if json.dumps(json.loads(row)) == wanted)


def lines(text: str) -> list[str]:
    """Lines with their ends; CR and the line ends of Unicode end none."""
    return list(io.StringIO(text, newline="\n"))
