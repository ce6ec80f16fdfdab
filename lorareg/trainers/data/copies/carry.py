"""What goes with the pictures into the folder of copies: captions, marks, vocabulary, licences.

A folder of copies is a dataset that people work on, so what they changed there stays: a caption or
a file is replaced only while it is still what was carried over the last time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from lorareg.registry import digest
from lorareg.registry.files import read_utf8, write_atomically
from lorareg.trainers.data import caption_marks, caption_table
from lorareg.trainers.data.caption_files import MAX_CAPTION_FILE, read_captions
from lorareg.trainers.data.caption_marks import Marks
from lorareg.trainers.data.caption_rows import caption_columns, csv_rows
from lorareg.trainers.data.caption_table import TABLE
from lorareg.trainers.data.copies.provenance import Copy

LICENCES = ("attribution", "license", "licence", "notice")
MAX_BYTES = 10_000_000  # a vocabulary or a licence is text, not a picture


def captions(
    folder: Path,
    out: Path,
    copies: Mapping[str, Copy],
    table: Mapping[str, str],
    *,
    dry_run: bool,
) -> dict[str, Copy]:
    """Write captions under their new names, with their marks.

    Args:
        folder: the dataset.
        out: the folder of copies.
        copies: by name; their ``caption`` is what was carried over the last time.
        table: captions by picture.
        dry_run: write nothing.

    Returns:
        The copies, with what is carried over now.
    """
    there = read_captions(out, list(copies), TABLE) if (out / TABLE).exists() else {}
    changes, after = {}, dict(copies)
    for name, copy in copies.items():
        caption = table.get(copy.source, "").strip()
        if not caption:
            continue
        found = there.get(name, "").strip()
        if not found or _digest(found) in (copy.caption, _digest(caption)):
            after[name] = copy.model_copy(update={"caption": _digest(caption)})
            if found != caption:
                changes[name] = caption
    if changes and not dry_run:
        caption_table.update(out, changes, TABLE)
        _marks(folder, out, copies, changes)
    return after


def forget(out: Path, names: Collection[str]) -> None:
    """Remove the captions of copies that are no more; training refuses captions without picture."""
    path = out / TABLE
    if not names or not path.exists():
        return
    parts = []
    column: int | None = None
    for row in csv_rows(read_utf8(path, max_bytes=MAX_CAPTION_FILE)):
        if column is None and any(row.cells):
            column = caption_columns(row.cells)[0][0]
        if column is None or len(row.cells) <= column or row.cells[column].strip() not in names:
            parts.append(row.written)
    write_atomically(path, "".join(parts))
    if (out / caption_marks.FILE).exists():
        caption_marks.change(
            out, lambda marks: Marks({n: m for n, m in marks.marks.items() if n not in names})
        )


def files(
    folder: Path,
    out: Path,
    vocabulary: str | None,
    before: Mapping[str, str],
    *,
    dry_run: bool,
) -> dict[str, str]:
    """Take over the vocabulary and licence texts, which bind copies as they bind originals.

    Args:
        folder: the dataset.
        out: the folder of copies.
        vocabulary: its name in the manifest.
        before: what was carried over the last time, with digests.
        dry_run: write nothing.

    Returns:
        What is carried over now, with digests.
    """
    carried = {}
    for path in sorted(folder.iterdir()):
        wanted = path.name in (vocabulary, "vocabulary.yaml") or _is_licence(path)
        if not wanted or not path.is_file() or path.stat().st_size > MAX_BYTES:
            continue
        sha256 = digest.of_file(path)
        there = digest.of_file(out / path.name) if (out / path.name).exists() else None
        if there in (None, sha256, before.get(path.name)):
            carried[path.name] = sha256
            if there != sha256 and not dry_run:
                write_atomically(out / path.name, path.read_bytes())
    return carried


def _marks(folder: Path, out: Path, copies: Mapping[str, Copy], changes: Mapping[str, str]) -> None:
    known = Marks.load(folder).marks
    new = {name: mark for name in changes if (mark := known.get(copies[name].source))}
    if new:
        caption_marks.change(out, lambda marks: Marks({**marks.marks, **new}))


def _is_licence(path: Path) -> bool:
    is_text = path.suffix.lower() in ("", ".md", ".rst", ".txt", ".html")
    return is_text and path.stem.lower().startswith(LICENCES)


def _digest(caption: str) -> str:
    return digest.of_bytes(caption.encode())
