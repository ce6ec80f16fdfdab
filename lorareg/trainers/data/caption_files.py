"""Captions of pictures, from whichever form a dataset uses.

``metadata.csv`` (with a header or as plain ``img01.jpg,"prompt"`` lines), ``metadata.jsonl``
(Hugging Face imagefolder), or ``.txt`` files beside the pictures. ``read_table`` gives what can be
read and everything that cannot; ``read_captions``, which training uses, wants all of it right.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lorareg.errors import InvalidFileError, LoraregError, NotFoundError, listed
from lorareg.registry.dataset import is_image
from lorareg.registry.encodings import wide_encoding
from lorareg.registry.files import conversion, read_utf8, spoken
from lorareg.trainers.data.caption_rows import BadLine, Reading

CAPTION_FILES = ("metadata.csv", "metadata.jsonl")
SIDECARS = "txt"
MAX_CAPTION_FILE = 256_000_000  # bytes
MAX_SIDECAR = 1_000_000  # bytes
MARK = "\ufeff"  # byte-order mark


@dataclass(frozen=True)
class CaptionTable:
    """What the caption files of a dataset say, and what is wrong with them.

    Attributes:
        source: name of the caption file, or "txt" for sidecars.
        captions: picture name (NFC) -> caption as written.
        faults: file name -> why it is refused as a whole.
        marked: caption files that begin with a byte-order mark, which is dropped.
        is_whole: whether it was read to its end, so that a caption that is not here is missing.
    """

    source: str
    captions: Mapping[str, str]
    bad_lines: tuple[BadLine, ...] = ()
    faults: Mapping[str, LoraregError] = field(default_factory=dict)
    marked: tuple[str, ...] = ()
    is_whole: bool = True


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
    table = read_table(folder, images, captions)
    if len(table.faults) == 1:
        raise next(iter(table.faults.values()))
    if table.faults:
        whys = [error.sentence for error in table.faults.values()]
        raise InvalidFileError(
            f"{folder.name}/ has {len(whys)} caption files that cannot be read",
            why="\n" + listed(whys, limit=100),
            fix="; ".join(dict.fromkeys(error.fix for error in [*table.faults.values()][:3])),
        )
    if bad := table.bad_lines:
        raise InvalidFileError(
            f"{folder.name}/{table.source} has {len(bad)} bad line{'s' * (len(bad) > 1)}",
            why="\n" + listed([f"line {line.number}: {line.why}" for line in bad], limit=100),
            fix="; ".join(dict.fromkeys(line.fix for line in bad)),
        )
    return dict(table.captions)


def read_table(folder: Path, images: Sequence[str], captions: str | None) -> CaptionTable:
    """What can be read of the captions, and all that is wrong; arguments as ``read_captions``."""
    chosen = captions or default_source(folder)
    if chosen == SIDECARS:
        return _from_sidecars(folder, images)
    path = folder / chosen
    try:
        if Path(chosen).name != chosen or not path.is_file():
            raise NotFoundError(
                f"dataset {folder.name}/ has no {chosen}",
                why="dataset.captions names a file in the dataset folder",
                fix=f"use one of {', '.join(CAPTION_FILES)}, or txt for files beside the pictures",
            )
        text, marked = read_text(path, MAX_CAPTION_FILE)
    except (NotFoundError, InvalidFileError) as error:
        return CaptionTable(chosen, {}, faults={chosen: error}, is_whole=False)
    read = Reading(chosen, path)
    (read.jsonl if chosen.endswith(".jsonl") else read.csv)(text)
    marks = (chosen,) if marked else ()
    return CaptionTable(chosen, read.table, tuple(read.bad), read.faults, marks, read.is_whole)


def default_source(folder: Path) -> str:
    """The caption file that is taken where none is named."""
    return next((name for name in CAPTION_FILES if (folder / name).is_file()), SIDECARS)


def pictures_in(folder: Path) -> list[str]:
    """Names of the pictures in a folder (NFC), in order of their files; hidden ones left out."""
    found = (path.relative_to(folder) for path in sorted(folder.rglob("*")))
    return [
        unicodedata.normalize("NFC", name.as_posix())
        for name in found
        if is_image(name.name) and not any(part.startswith(".") for part in name.parts)
    ]


def on_disk(folder: Path, name: str) -> Path:
    """The file with a composed name, which macOS may have stored decomposed (NFD)."""
    path = folder / name
    return path if path.exists() else folder / unicodedata.normalize("NFD", name)


def read_text(path: Path, max_bytes: int) -> tuple[str, bool]:
    """The text of a caption file, and whether a byte-order mark was dropped from it.

    Raises:
        InvalidFileError: as ``read_utf8``; or it is full of NUL bytes, as Latin text in UTF-16.
    """
    with path.open("rb") as stream:
        marked = stream.read(3) == MARK.encode()
    text = read_utf8(path, max_bytes=max_bytes)
    if 4 * text.count("\0") > len(text):
        raise _full_of_nul(path, text, "is full of")
    return text, marked


def _full_of_nul(path: Path, text: str, verb: str) -> InvalidFileError:
    guess = wide_encoding(text.encode())
    why = f"it reads as {spoken(guess)}; lorareg files are UTF-8"
    if guess is None:
        why = "no text in UTF-8 has them; it may be UTF-16, or no text at all"
    return InvalidFileError(f"{path.name} {verb} NUL bytes", why=why, fix=conversion(path, guess))


def _from_sidecars(folder: Path, images: Sequence[str]) -> CaptionTable:
    captions: dict[str, str] = {}
    faults: dict[str, LoraregError] = {}
    for name, path in sidecars(folder, images).items():
        try:
            text = read_utf8(path, max_bytes=MAX_SIDECAR)
            if "\0" in text:
                raise _full_of_nul(path, text, "holds")
            captions[name] = text
        except InvalidFileError as error:
            faults[sidecar_name(name)] = error
    return CaptionTable(SIDECARS, captions, faults=faults)


def sidecar_name(image: str) -> str:
    """Name of the text file beside a picture."""
    return f"{os.path.splitext(image)[0]}.txt"


def sidecars(folder: Path, images: Sequence[str]) -> dict[str, Path]:
    """Picture -> its ``.txt`` file, of those that have one.

    Folders are listed, not asked for each name: 10,000 questions take 0.2 s.
    """
    beside = {name: sidecar_name(name) for name in images}
    found: dict[str, Path] = {}
    for parent in {os.path.dirname(name) for name in images}:
        place = on_disk(folder, parent)
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.name.endswith(".txt") and entry.is_file():
                    name = unicodedata.normalize("NFC", entry.name)
                    found[f"{parent}/{name}" if parent else name] = place / entry.name
    return {name: found[text] for name, text in beside.items() if text in found}
