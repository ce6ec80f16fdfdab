"""Captions of pictures, from whichever form a dataset uses.

``metadata.csv`` (with a header or as plain ``img01.jpg,"prompt"`` lines), ``metadata.jsonl``
(Hugging Face imagefolder), or ``.txt`` files beside the pictures.
"""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from lorareg.errors import InvalidFileError, NotFoundError, listed
from lorareg.registry.files import read_utf8

CAPTION_FILES = ("metadata.csv", "metadata.jsonl")
NAME_COLUMNS = ("file_name", "filename", "file", "image", "img", "path")
TEXT_COLUMNS = ("text", "caption", "prompt", "additional_feature")
MAX_CAPTION_FILE = 256_000_000  # bytes


def read_captions(folder: Path, images: Sequence[str], captions: str | None) -> dict[str, str]:
    """Captions by picture name.

    Args:
        folder: of the dataset.
        images: names of its pictures, in composed Unicode (NFC).
        captions: name of the caption file, "txt" for sidecars, or None to take what is there.

    Raises:
        NotFoundError: the caption file is not there.
        InvalidFileError: not UTF-8, or lines that are no captions; every one is named.
    """
    chosen = captions or next((name for name in CAPTION_FILES if (folder / name).is_file()), "txt")
    if chosen == "txt":
        return _from_sidecars(folder, images)
    path = folder / chosen
    if Path(chosen).name != chosen or not path.is_file():
        raise NotFoundError(
            f"dataset {folder.name}/ has no {chosen}",
            why="dataset.captions names a file in the dataset folder",
            fix=f"use one of {', '.join(CAPTION_FILES)}, or txt for files beside the pictures",
        )
    text = read_utf8(path, max_bytes=MAX_CAPTION_FILE)
    table, problems = _from_jsonl(text) if chosen.endswith(".jsonl") else _from_csv(text)
    if problems:
        raise InvalidFileError(
            f"{folder.name}/{chosen} has {len(problems)} bad line{'s' * (len(problems) > 1)}",
            why="\n" + listed(problems, limit=100),
            fix='write a line as img01.jpg,"the caption", or as {"file_name": ..., "text": ...}',
        )
    return table


def on_disk(folder: Path, name: str) -> Path:
    """The file with a composed name, which macOS may have stored decomposed (NFD)."""
    path = folder / name
    return path if path.exists() else folder / unicodedata.normalize("NFD", name)


def _from_sidecars(folder: Path, images: Sequence[str]) -> dict[str, str]:
    sidecars = {name: on_disk(folder, str(Path(name).with_suffix(".txt"))) for name in images}
    return {
        name: read_utf8(path, max_bytes=1_000_000)
        for name, path in sidecars.items()
        if path.is_file()
    }


def _from_jsonl(text: str) -> tuple[dict[str, str], list[str]]:
    table: dict[str, str] = {}
    problems = []
    # Not splitlines: a JSON string may hold U+2028 and other line ends of Unicode as they are.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.append(f"line {number}: not JSON ({error})")
            continue
        name = _first(row, NAME_COLUMNS) if isinstance(row, dict) else None
        caption = _first(row, TEXT_COLUMNS) if isinstance(row, dict) else None
        if name is None or caption is None:
            problems.append(f"line {number}: needs file_name and text")
        else:
            _add(table, problems, number, (name, caption))
    return table, problems


def _from_csv(text: str) -> tuple[dict[str, str], list[str]]:
    table: dict[str, str] = {}
    problems: list[str] = []
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    columns: tuple[int, int] | None = None
    width = 2
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if columns is None:
                columns, is_header = _columns(row)
                if is_header:
                    width = len(row)
                    continue
            if len(row) != width:
                problems.append(
                    f"line {reader.line_num}: {len(row)} columns; put the caption in double quotes"
                )
                continue
            _add(table, problems, reader.line_num, (row[columns[0]], row[columns[1]]))
    except csv.Error as error:
        problems.append(f"line {reader.line_num}: {error}")
    return table, problems


def _columns(first: Sequence[str]) -> tuple[tuple[int, int], bool]:
    """Which columns hold name and caption, and whether this row is a header."""
    names = [cell.strip().lower() for cell in first]
    name = next((names.index(n) for n in NAME_COLUMNS if n in names), None)
    text = next((names.index(n) for n in TEXT_COLUMNS if n in names), None)
    if name is None or text is None:
        return (0, 1), False
    return (name, text), True


def _add(table: dict[str, str], problems: list[str], line: int, row: tuple[str, str]) -> None:
    name = unicodedata.normalize("NFC", row[0].strip()).replace("\\", "/").removeprefix("./")
    if name in table:
        problems.append(f"line {line}: {name} has a caption already")
    table.setdefault(name, row[1])


def _first(row: Mapping[str, object], names: Sequence[str]) -> str | None:
    return next((v for n in names if isinstance(v := row.get(n), str)), None)
