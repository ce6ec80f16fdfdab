"""The forms in which image datasets carry captions; one of each is among the samples."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence

from tools.samples.picture import Picture, render

Files = Mapping[str, bytes]
"""The files of a dataset: path inside its folder, and bytes."""


def names(pictures: Sequence[Picture]) -> list[str]:
    """File names without suffix, in order: ``img001``, ``img002`` ..."""
    return [f"img{number:03}" for number in range(1, len(pictures) + 1)]


def images(pictures: Sequence[Picture]) -> dict[str, bytes]:
    """The PNG files of a dataset."""
    return {
        f"{name}.png": render(picture.svg)
        for name, picture in zip(names(pictures), pictures, strict=True)
    }


def as_csv(pictures: Sequence[Picture], *, header: bool) -> dict[str, bytes]:
    """``metadata.csv``: file name and caption a row; with the Hub's header row or without."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    if header:
        rows.writerow(["file_name", "text"])
    for name, picture in zip(names(pictures), pictures, strict=True):
        rows.writerow([f"{name}.png", picture.caption])
    return {"metadata.csv": text.getvalue().encode()}


def as_sidecars(pictures: Sequence[Picture]) -> dict[str, bytes]:
    """A ``.txt`` beside every picture, as kohya's trainers read them."""
    return {
        f"{name}.txt": f"{picture.caption}\n".encode()
        for name, picture in zip(names(pictures), pictures, strict=True)
    }


def as_jsonl(pictures: Sequence[Picture]) -> dict[str, bytes]:
    """``metadata.jsonl``: the Hub's imagefolder form."""
    rows = [
        {"file_name": f"{name}.png", "text": picture.caption}
        for name, picture in zip(names(pictures), pictures, strict=True)
    ]
    return {"metadata.jsonl": jsonl(rows)}


def jsonl(rows: Sequence[object]) -> bytes:
    """One JSON document a line, UTF-8, readable as it stands."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
