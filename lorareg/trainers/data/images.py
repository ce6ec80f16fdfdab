"""Pictures and their captions, read from a folder that is never written to.

Captions come from ``metadata.csv`` (with a header or as plain ``img01.jpg,"prompt"`` lines),
``metadata.jsonl`` (Hugging Face imagefolder) or ``.txt`` files beside the pictures.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from lorareg.errors import InvalidFileError, NotFoundError, listed
from lorareg.registry.dataset import IMAGES
from lorareg.registry.files import read_utf8

CAPTION_FILES = ("metadata.csv", "metadata.jsonl")
NAME_COLUMNS = ("file_name", "filename", "file", "image", "img", "path")
TEXT_COLUMNS = ("text", "caption", "prompt", "additional_feature")
MAX_CAPTION_FILE = 256_000_000  # bytes


@dataclass(frozen=True)
class ImageRecord:
    """One picture with its caption.

    Attributes:
        id: path within the dataset, POSIX.
        sha256: digest of the file, which names its latents in the cache.
    """

    id: str
    path: Path
    caption: str
    sha256: str


def read_records(
    folder: Path, files: Mapping[str, str], captions: str | None, skip: Sequence[str] = ()
) -> list[ImageRecord]:
    """Pair every picture with its caption.

    Args:
        folder: of the dataset.
        files: its listing, name -> digest.
        captions: name of the caption file, "txt", or None to take what is there.
        skip: names of quarantined pictures.

    Raises:
        NotFoundError: no picture, or no captions at all.
        InvalidFileError: lists every picture without a caption and every caption without one.
    """
    images = [n for n in sorted(files) if Path(n).suffix.lower() in IMAGES and n not in skip]
    if not images:
        raise NotFoundError(
            f"dataset {folder.name}/ has no picture",
            why="it holds no .jpg, .jpeg, .png or .webp file that is not skipped",
            fix="put pictures into it, then run lorareg train again",
        )
    table = read_captions(folder, images, captions)
    empty = [f"{name}: no caption" for name in images if not table.get(name, "").strip()]
    lost = [f"{name}: caption of a picture that is not there" for name in table.keys() - set(files)]
    if empty or lost:
        raise InvalidFileError(
            f"dataset {folder.name}/: {len(empty) + len(lost)} captions are missing or astray",
            why="\n" + listed([*empty, *sorted(lost)], limit=100),
            fix="add the captions, or remove the pictures",
        )
    return [ImageRecord(n, folder / n, table[n].strip(), files[n]) for n in images]


def read_captions(folder: Path, images: Sequence[str], captions: str | None) -> dict[str, str]:
    """Captions by picture name, from whichever form the dataset uses."""
    chosen = captions or next((name for name in CAPTION_FILES if (folder / name).is_file()), "txt")
    if chosen == "txt":
        sidecars = {name: folder / Path(name).with_suffix(".txt") for name in images}
        return {
            name: read_utf8(path, max_bytes=1_000_000)
            for name, path in sidecars.items()
            if path.is_file()
        }
    path = folder / chosen
    if Path(chosen).name != chosen or not path.is_file():
        raise NotFoundError(
            f"dataset {folder.name}/ has no {chosen}",
            why="dataset.captions names a file in the dataset folder",
            fix=f"use one of {', '.join(CAPTION_FILES)}, or txt for files beside the pictures",
        )
    text = read_utf8(path, max_bytes=MAX_CAPTION_FILE)
    shown = f"{folder.name}/{chosen}"
    return _from_jsonl(shown, text) if chosen.endswith(".jsonl") else _from_csv(shown, text)


def load_image(path: Path) -> Image.Image:
    """A picture as people see it: upright by its EXIF orientation, RGB, transparency over white.

    Raises:
        InvalidFileError: truncated, not a picture, or a decompression bomb.
    """
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.has_transparency_data:
                canvas = Image.new("RGBA", upright.size, "white")
                canvas.alpha_composite(upright.convert("RGBA"))
                upright = canvas
            return upright.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "it is no picture" if isinstance(error, UnidentifiedImageError) else str(error)
        raise InvalidFileError(f"{path.name} cannot be decoded", why=reason) from error


def check_pictures(
    records: Sequence[ImageRecord], resolution: int, advance: Callable[[int], None]
) -> tuple[list[str], list[str]]:
    """Decode every picture, in threads.

    Args:
        records: what to look at.
        resolution: pixels; a shorter side below it would have to be enlarged.
        advance: told of each picture done.

    Returns:
        Names of the broken pictures, and sentences on those that are too small.
    """
    broken: list[str] = []
    small: list[str] = []
    with ThreadPoolExecutor() as pool:
        for record, outcome in zip(records, pool.map(_size, records), strict=True):
            advance(1)
            if isinstance(outcome, str):
                broken.append(f"{record.id}: {outcome}")
            elif min(outcome) < resolution:
                width, height = outcome
                small.append(f"{record.id}: {width}x{height}, below {resolution} pixels")
    return broken, small


def square(image: Image.Image, side: int) -> tuple[Image.Image, tuple[int, int]]:
    """Shrink the shorter side to ``side`` pixels and cut out the centre.

    Returns:
        The square, and (top, left) of the cut in the shrunk picture, for SDXL's conditioning.
    """
    scale = side / min(image.size)
    width, height = (max(side, round(length * scale)) for length in image.size)
    shrunk = image.resize((width, height), Image.Resampling.LANCZOS)
    left, top = (width - side) // 2, (height - side) // 2
    return shrunk.crop((left, top, left + side, top + side)), (top, left)


def _size(record: ImageRecord) -> tuple[int, int] | str:
    try:
        return load_image(record.path).size
    except InvalidFileError as error:
        return error.why


def _from_jsonl(shown: str, text: str) -> dict[str, str]:
    table: dict[str, str] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), start=1):
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
        elif name in table:
            problems.append(f"line {number}: {name} has a caption already")
        else:
            table[name] = caption
    return _checked(shown, table, problems)


def _from_csv(shown: str, text: str) -> dict[str, str]:
    table: dict[str, str] = {}
    problems = []
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
            name = row[columns[0]].strip()
            if name in table:
                problems.append(f"line {reader.line_num}: {name} has a caption already")
            table[name] = row[columns[1]]
    except csv.Error as error:
        problems.append(f"line {reader.line_num}: {error}")
    return _checked(shown, table, problems)


def _columns(first: Sequence[str]) -> tuple[tuple[int, int], bool]:
    """Which columns hold name and caption, and whether this row is a header."""
    names = [cell.strip().lower() for cell in first]
    name = next((names.index(n) for n in NAME_COLUMNS if n in names), None)
    text = next((names.index(n) for n in TEXT_COLUMNS if n in names), None)
    if name is None or text is None:
        return (0, 1), False
    return (name, text), True


def _first(row: Mapping[str, object], names: Sequence[str]) -> str | None:
    return next((v for n in names if isinstance(v := row.get(n), str)), None)


def _checked(shown: str, table: dict[str, str], problems: list[str]) -> dict[str, str]:
    if problems:
        raise InvalidFileError(
            f"{shown} has {len(problems)} bad lines",
            why="\n" + listed(problems, limit=100),
            fix='write a line as img01.jpg,"the caption", or as {"file_name": ..., "text": ...}',
        )
    return table
