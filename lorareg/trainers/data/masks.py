"""Masks of pictures: white where a picture is learned, black where it is not.

A mask is the alpha channel of its picture, or a picture of the same name in a folder of the
dataset, of any size of the same aspect.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from lorareg.errors import InvalidFileError, listed
from lorareg.registry.dataset import is_image
from lorareg.trainers.data.caption_files import on_disk
from lorareg.trainers.data.copies.buckets import Size
from lorareg.trainers.data.cuts import upright_size
from lorareg.trainers.data.images import ImageRecord, MaskFile, eight_bit, opened, turned


def attach(
    records: Sequence[ImageRecord], folder: Path, files: Mapping[str, str], source: str
) -> list[ImageRecord]:
    """Give every picture the mask of its name, whatever the ending: ``masks/01.png`` for 01.jpg.

    Args:
        records: pictures without masks.
        folder: of the dataset.
        files: its listing, name -> digest.
        source: folder of the masks within it.

    Raises:
        InvalidFileError: masks that are missing, double, broken or of another aspect than their
            pictures; all are named.
    """
    by_stem: dict[str, list[str]] = {}
    for name in sorted(files):
        if name.startswith(f"{source}/") and is_image(name):
            by_stem.setdefault(_stem(name), []).append(name)
    found, problems = [], []
    for record in records:
        names = by_stem.get(f"{source}/{_stem(record.id)}", [])
        if len(names) != 1:
            problems.append(f"{record.id}: {_count(names, source, record.id)}")
            continue
        path = on_disk(folder, names[0])
        found.append(replace(record, mask=MaskFile(path, files[names[0]])))
        if why := _misfit(record.path, path):
            problems.append(f"{names[0]}: {why}")
    if problems:
        raise InvalidFileError(
            f"dataset {folder.name}/: {len(problems)} masks cannot be used",
            why="\n" + listed(problems, limit=100),
            fix=f"put one mask of the same shape for each picture into {folder.name}/{source}/",
        )
    return found


def without_alpha(records: Sequence[ImageRecord]) -> list[str]:
    """The pictures that have no alpha channel, by their headers.

    Raises:
        InvalidFileError: none has one.
    """
    found = []
    for record in records:
        with opened(record.path) as image:
            if not image.has_transparency_data:
                found.append(record.id)
    if len(found) == len(records):
        raise InvalidFileError(
            "no picture has an alpha channel",
            why="train.masked_loss.source is alpha",
            fix="save the pictures as PNG with transparency, or name a folder of masks: "
            "train.masked_loss.source: masks",
        )
    return found


def read(record: ImageRecord) -> tuple[Image.Image, Size]:
    """The mask of a picture, in grey, and the size of the picture.

    A picture that should have an alpha channel and has none counts fully.
    """
    if record.mask:
        with opened(record.mask.path) as image:
            upright = turned(image)
            if upright.mode.startswith("I"):
                upright = eight_bit(upright)
            return upright.convert("L"), upright_size(record.path)
    with opened(record.path) as image:
        upright = turned(image)
        if not upright.has_transparency_data:
            return Image.new("L", upright.size, 255), upright.size
        return upright.convert("RGBA").getchannel("A"), upright.size


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


def _count(names: Sequence[str], source: str, picture: str) -> str:
    if names:
        return f"has several masks: {', '.join(names)}"
    return f"has no mask {source}/{_stem(picture)}.png"


def _misfit(picture: Path, mask: Path) -> str | None:
    """Why a mask does not lie over its picture; sides may be rounded to whole pixels."""
    try:
        (width, height), (across, down) = upright_size(picture), upright_size(mask)
    except InvalidFileError as error:
        return error.why
    if abs(width * down - height * across) > max(width, height, across, down):
        return f"is {across}x{down}, its picture {width}x{height}: another shape"
    return None
