"""Captions written into a dataset's table: only the cells that change are touched.

Every other row stays byte for byte as it was, with its quotes and line ends, so that a person's
diff shows the captions that changed and nothing else. (``csv`` alone would write every row anew.)
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from lorareg.errors import InvalidFileError, LoraregError, listed
from lorareg.registry.files import read_utf8, write_atomically
from lorareg.trainers.data.caption_files import MARK, MAX_CAPTION_FILE, pictures_in, read_captions
from lorareg.trainers.data.caption_marks import writing
from lorareg.trainers.data.caption_rows import caption_columns, csv_rows

TABLE = "metadata.csv"
MAX_CAPTION = 100_000  # characters; the csv module reads no field above 131,072
ATTEMPTS = 10


def destination(folder: Path, captions: str | None) -> Path:
    """The table that captions are written into; to be asked before long work.

    Args:
        folder: of the dataset.
        captions: what its manifest says: a caption file, "txt", or None for what is there.

    Raises:
        LoraregError: the manifest says the captions are in a file that is no table, so a table
            would never be read.
    """
    name = captions or TABLE
    if not name.endswith(".csv") or Path(name).name != name:
        raise LoraregError(
            f"captions of {folder.name}/ cannot be written: dataset.captions is {name}",
            why=f"captions are written into {TABLE}, and training would still read {name}",
            fix=f"remove dataset.captions from the manifest: all captions move into {TABLE}",
        )
    return folder / name


def update(folder: Path, changes: Mapping[str, str], captions: str | None) -> Path:
    """Write captions into the dataset's table, now and whole; returns the table.

    The file is read again each time, so what an editor saved meanwhile is kept. Where there is no
    table yet it is made, with all captions of ``metadata.jsonl`` or of the .txt files, which are
    not read any more once it exists. They are left in place.

    Args:
        folder: of the dataset.
        changes: picture name (NFC) -> caption.
        captions: what its manifest says.

    Raises:
        LoraregError: ``dataset.captions`` names no table, or the disk is full.
        InvalidFileError: the table has bad lines, or a caption cannot be written.
    """
    path = destination(folder, captions)
    _refuse_unwritable(changes)
    with writing(folder):
        for _ in range(ATTEMPTS):
            before = _content(path)
            if before is None:
                kept = {name: text.strip() for name, text in _elsewhere(folder).items()}
                text = "".join(map(_line, [("file_name", "text"), *({**kept, **changes}.items())]))
            else:
                read_captions(folder, (), path.name)  # names every bad line
                text = _rewritten(read_utf8(path, max_bytes=MAX_CAPTION_FILE), changes)
            after = _byte_order_mark(before) + text.encode()
            if _content(path) == before:
                if after != before:
                    write_atomically(path, after)
                return path
    raise LoraregError(
        f"{path.name} changes all the time", why="another program keeps writing it", fix="stop it"
    )


def _content(path: Path) -> bytes | None:
    """What is in a file, up to one byte more than is ever read of a table; None without it."""
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_CAPTION_FILE + 1)
    except FileNotFoundError:
        return None


def _refuse_unwritable(changes: Mapping[str, str]) -> None:
    problems = []
    for name, caption in changes.items():
        if len(caption) > MAX_CAPTION:
            problems.append(f"{name}: {len(caption)} characters, at most {MAX_CAPTION}")
        elif any("\ud800" <= letter <= "\udfff" for letter in caption):
            problems.append(f"{name}: half of a character, which UTF-8 cannot hold")
        elif "\0" in caption:
            problems.append(f"{name}: a NUL byte, which no caption file may hold")
    if problems:
        raise InvalidFileError("captions cannot be written", why="\n" + listed(problems))


def _elsewhere(folder: Path) -> dict[str, str]:
    """Captions of a dataset that has no table."""
    return read_captions(folder, pictures_in(folder), None)


def _byte_order_mark(before: bytes | None) -> bytes:
    """Excel knows Chinese in a table by this mark only, so a table that has it keeps it."""
    return MARK.encode() if before and before.startswith(MARK.encode()) else b""


def _rewritten(text: str, changes: Mapping[str, str]) -> str:
    """The table with other captions, and rows for the names it did not have."""
    columns: tuple[int, int] | None = None
    width = 2
    missing = dict(changes)
    parts: list[str] = []
    line_end = ""
    for row in csv_rows(text):
        parts.append(row.written)
        ending = row.written[len(row.written.rstrip("\r\n")) :]
        line_end = line_end or ending
        if not any(cell.strip() for cell in row.cells):
            continue
        if columns is None:
            columns, is_header = caption_columns(row.cells)
            if is_header:
                width = len(row.cells)
                continue
        caption = missing.pop(_plain(row.cells[columns[0]]), None)
        if caption is not None and caption != row.cells[columns[1]]:
            cells = [caption if i == columns[1] else cell for i, cell in enumerate(row.cells)]
            parts[-1] = _line(cells, ending)
    name_column, text_column = columns or (0, 1)
    line_end = line_end or "\n"
    if missing and parts and not parts[-1].endswith(("\r", "\n")):
        parts.append(line_end)
    for name, caption in missing.items():
        filled = {name_column: name, text_column: caption}
        parts.append(_line([filled.get(i, "") for i in range(width)], line_end))
    return "".join(parts)


def _plain(cell: str) -> str:
    """The picture a cell names, as ``read_captions`` calls it."""
    return unicodedata.normalize("NFC", cell.strip()).replace("\\", "/").removeprefix("./")


def _line(cells: Sequence[str], line_end: str = "\n") -> str:
    return ",".join(map(_cell, cells)) + line_end


def _cell(text: str) -> str:
    """Quoted where needed, also for a leading space, which readers skip (``csv`` forgets that)."""
    if any(letter in text for letter in ',"\r\n') or text[:1].isspace():
        return '"' + text.replace('"', '""') + '"'
    return text
