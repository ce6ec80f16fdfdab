"""Pictures that stay unread: formats other than JPEG, PNG and WebP, by their names or first bytes.

Phones and scanners write them, and nobody should lose pictures without a word.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

UNREAD = frozenset({".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jxl", ".tif", ".tiff"})
FIX = "convert them to .png or .jpg"
HEAD = 64  # bytes that tell a format; HEIC and AVIF list what they are compatible with
STARTS = {
    b"GIF8": "a GIF picture",
    b"BM": "a BMP picture",
    b"II*\0": "a TIFF picture",
    b"MM\0*": "a TIFF picture",
    b"%PDF-": "a PDF document",
}
HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def unread(folder: Path) -> list[str]:
    """Names of the pictures in a dataset that are passed by, sorted.

    They are only shown, so one that is not UTF-8 has question marks in it.
    """
    names = with_ending(folder, UNREAD)
    return sorted(os.fsencode(name).decode(errors="replace") for name in names)


def why_unread(name: str) -> str:
    """The reason, in the words that people see.

    >>> why_unread("a/01.HEIC")
    '.heic pictures are not read'
    """
    return f"{os.path.splitext(name)[1].lower()} pictures are not read"


def with_ending(folder: Path, endings: Collection[str]) -> Iterator[str]:
    """Names of files by their ending, POSIX; hidden ones are left alone, as in a dataset."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in endings:
                yield Path(parent, name).relative_to(folder).as_posix()


def kind(path: Path) -> str | None:
    """What a file is by its first bytes, if it is of a format that people take for a picture.

    Source: ISO/IEC 14496-12 (the ``ftyp`` box) and 23008-12 (its brands in HEIC and AVIF).
    """
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    if head[4:8] == b"ftyp":
        brands = head[8:]
        if b"avif" in brands or b"avis" in brands:
            return "an AVIF picture"
        return "a HEIC picture" if brands.startswith(HEIF) else None
    return next((name for start, name in STARTS.items() if head.startswith(start)), None)
