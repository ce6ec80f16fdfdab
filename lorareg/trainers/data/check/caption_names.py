"""Captions whose picture is not there: in a table, or as a .txt file beside nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from lorareg.trainers.data.caption_files import sidecar_name
from lorareg.trainers.data.check.findings import Finding

# Names are alike that differ in case, in their ending, or in the folder before them.
ALIKE: tuple[Callable[[str], str], ...] = (
    str.casefold,
    lambda name: os.path.splitext(name.casefold())[0],
    lambda name: name.casefold().rpartition("/")[2],
    lambda name: os.path.splitext(name.casefold())[0].rpartition("/")[2],
)
ABOUT = re.compile(r"[A-Z][A-Z_-]*")  # README, LICENSE, NOTICE: of the dataset, not of a picture


def astray(names: Iterable[str], images: Sequence[str], skip: Sequence[str]) -> Iterator[Finding]:
    """Names of a table that no picture has; training refuses them.

    Args:
        names: of which there are captions.
        images: names of the pictures.
        skip: names of quarantined pictures.
    """
    lost = sorted(set(names) - set(images) - set(skip))
    for name, near in _with_near(lost, images):
        why = f"a caption of a picture that is not there{near}"
        fix = "correct the name, remove the line, or put the picture back"
        yield Finding("caption-astray", "error", (name,), why, fix)


def astray_files(
    files: Iterable[str], images: Sequence[str], skip: Sequence[str]
) -> Iterator[Finding]:
    """Text files that are beside no picture, so that nothing reads them; as ``astray``."""
    lost = set(files) - {sidecar_name(name) for name in (*images, *skip)}
    captions = [
        name
        for name in sorted(lost)
        if not ABOUT.fullmatch(os.path.splitext(name.rpartition("/")[2])[0])
    ]
    for name, near in _with_near(captions, images):
        why = f"a caption file without a picture{near}"
        fix = "name it as its picture with .txt at the end, remove it, or put the picture back"
        yield Finding("caption-astray", "warning", (name,), why, fix)


def _with_near(lost: Sequence[str], images: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each name, with the picture that it may mean."""
    if not lost:
        return
    alike: dict[str, str] = {}
    for key in ALIKE:
        for name in images:
            alike.setdefault(key(name), name)
    for name in lost:
        near = next((alike[key(name)] for key in ALIKE if key(name) in alike), None)
        yield name, f"; there is {near}" if near else ""
