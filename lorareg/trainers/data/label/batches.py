"""A handful of pictures shown to a captioner: the step that every executor repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import InvalidFileError
from lorareg.trainers.data.images import load_image
from lorareg.trainers.data.label.captioner import Captioner
from lorareg.trainers.data.label.wording import tidy


@dataclass(frozen=True)
class Picture:
    """A picture to label: its name in the dataset, and its file."""

    name: str
    path: Path


@dataclass(frozen=True)
class Said:
    """What came of a picture.

    Attributes:
        text: on one line; "" if there is a problem.
        problem: why there is no text; "" if there is one.
    """

    name: str
    text: str
    problem: str = ""


def label(captioner: Captioner, pictures: Sequence[Picture]) -> list[Said]:
    """Caption those that can be decoded, in one go; name the others."""
    images = {}
    problems = {}
    for picture in pictures:
        try:
            images[picture.name] = load_image(picture.path)
        except InvalidFileError as error:
            problems[picture.name] = error.why
    texts = captioner.caption(list(images.values())) if images else []
    said = {name: tidy(text) for name, text in zip(images, texts, strict=True)}
    return [
        Said(
            picture.name,
            said.get(picture.name, ""),
            problems.get(picture.name) or ("" if said[picture.name] else "the model said nothing"),
        )
        for picture in pictures
    ]


def in_batches(pictures: Sequence[Picture], size: int) -> list[tuple[Picture, ...]]:
    """Cut into batches of a size; the last may be smaller."""
    return [tuple(pictures[i : i + size]) for i in range(0, len(pictures), size)]
