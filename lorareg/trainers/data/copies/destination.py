"""The folder of the copies: whether it may be used, the names in it, and what is there already."""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from lorareg.errors import InvalidFileError, LoraregError, NotFoundError, listed
from lorareg.registry import digest
from lorareg.registry.workspace import Workspace
from lorareg.trainers.data.copies import provenance
from lorareg.trainers.data.copies.provenance import Provenance, Settings

DIGITS = 8  # of the picture's sha256; enough to tell two img01.jpg of two folders apart
STEM_BYTES = 120  # in UTF-8; leaves room for digits and for the name of a temporary file in 255


def existing(source: Path, out: Path, settings: Settings) -> Provenance | None:
    """What an earlier run made in ``out``; None if it is new.

    Raises:
        LoraregError: ``out`` is the dataset, in it or around it, or so with the dataset of another
            adapter; holds something else; holds copies made in another way, or copies that somebody
            changed since.
        InvalidFileError: its provenance file is broken.
    """
    _refuse_overlap(source, out)
    _refuse_other_datasets(out)
    if not out.exists():
        return None
    if not out.is_dir():
        raise LoraregError(
            f"--out {out} is no folder",
            why="it is there already, and copies need a folder",
            fix=f"choose a folder: {_beside(source, '_prepared')}",
        )
    before = provenance.load(out)
    if before is None:
        if any(not entry.name.startswith(".") for entry in out.iterdir()):
            raise LoraregError(
                f"{out}/ is not empty",
                why="it holds files that lorareg data prepare did not put there",
                fix=_other(out),
            )
        return None
    _refuse_other_settings(before.settings, settings, out)
    _refuse_changed(before, out)
    return before


def copy_names(pictures: Mapping[str, str], ending: str) -> dict[str, str]:
    """Picture -> name of its copy, which does not depend on what other pictures there are.

    >>> copy_names({"Ann/第 1 张.jpg": "sha256:89abcdef0" + 55 * "0"}, ".png")
    {'Ann/第 1 张.jpg': '第-1-张-89abcdef.png'}

    Args:
        pictures: name -> digest.
        ending: of the copies.
    """
    names = {name: _name(name, sha256, DIGITS, ending) for name, sha256 in pictures.items()}
    taken: dict[str, int] = {}
    for copy in names.values():
        taken[copy.casefold()] = taken.get(copy.casefold(), 0) + 1
    return {
        name: copy if taken[copy.casefold()] == 1 else _name(name, pictures[name], 64, ending)
        for name, copy in names.items()
    }


def _name(picture: str, sha256: str, digits: int, ending: str) -> str:
    return f"{_stem(picture)}-{sha256.removeprefix('sha256:')[:digits]}{ending}"


def _stem(picture: str) -> str:
    """Letters, digits and pictograms of any script stay; what shells and file systems mind goes."""
    stem = unicodedata.normalize("NFC", PurePosixPath(picture).stem)
    kept = "".join(c if _is_plain(c) else " " for c in stem)
    short = "-".join(kept.split()).encode()[:STEM_BYTES].decode(errors="ignore")
    return short.strip("-.") or "picture"


def _is_plain(letter: str) -> bool:
    return letter in "_.-" or unicodedata.category(letter)[0] in "LMN" or _is_pictogram(letter)


def _is_pictogram(letter: str) -> bool:
    return unicodedata.category(letter) == "So"


def _refuse_overlap(source: Path, out: Path) -> None:
    here, there = source.resolve(), out.resolve()
    if there == here or here in there.parents or there in here.parents:
        raise LoraregError(
            f"--out {out} overlaps the dataset {_shown(source)}",
            why="copies among the originals would be taken for originals",
            fix=f"choose a folder beside it: {_beside(source, '_prepared')}",
        )


def _refuse_other_datasets(out: Path) -> None:
    """A dataset may be the folder of copies itself, but copies in it would change its digest."""
    there = out.resolve()
    for name, folder in _datasets(there):
        if folder in there.parents or there in folder.parents:
            raise LoraregError(
                f"--out {out} overlaps the dataset of {name}, {_shown(folder)}",
                why="copies would count as pictures of that dataset, or its pictures as copies",
                fix=f"choose a folder beside it: {_beside(folder, '_prepared')}",
            )


def _datasets(out: Path) -> Iterator[tuple[str, Path]]:
    """Adapters of the registry that a folder is in, with their datasets, links followed."""
    try:
        workspace = Workspace.find(out)
    except NotFoundError:
        return
    for asset in workspace.assets():
        with suppress(LoraregError):  # a recipe, or a manifest that lorareg list calls broken
            for folder in workspace.data(workspace.load_manifest(asset)):
                yield str(asset), folder.resolve()


def _refuse_other_settings(before: Settings, settings: Settings, out: Path) -> None:
    old, new = before.model_dump(), settings.model_dump()
    changed = [f"{key}: {old[key]} there, {new[key]} now" for key in old if old[key] != new[key]]
    if changed:
        raise LoraregError(
            f"{out}/ holds copies made in another way",
            why="\n" + listed(changed),
            fix=_other(out),
        )


def _refuse_changed(before: Provenance, out: Path) -> None:
    changed = [
        name
        for name, copy in sorted(before.copies.items())
        if (out / name).exists() and digest.of_file(out / name) != copy.sha256
    ]
    if changed:
        raise InvalidFileError(
            f"{len(changed)} copies in {out}/ were changed since they were made",
            why="they would be overwritten:\n" + listed(changed),
            fix=f"delete them to have them made again, or {_other(out)}",
        )


def _other(out: Path) -> str:
    return f"choose another folder: {_beside(out, '_2')}"


def _beside(folder: Path, ending: str) -> str:
    """The option for a folder next to another one, to paste."""
    name = f"{folder.resolve().name}{ending}"
    beside = folder / ".." / name if folder.name in ("", "..") else folder.with_name(name)
    return f"--out {shlex.quote(_shown(beside))}"


def _shown(folder: Path) -> str:
    """As it was typed; a dataset that a manifest names is absolute, and shown from here."""
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)
