"""What a dataset is made of: its files, their digests, and how two states of it differ."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import InvalidFileError, NotFoundError, listed
from lorareg.registry import digest
from lorareg.registry.digest import DigestCache

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
CAPTIONS = frozenset({".csv", ".jsonl", ".txt", ".yaml"})


@dataclass(frozen=True)
class Listing:
    """A dataset's files that count: pictures, captions, records; not its licence texts.

    Attributes:
        files: relative POSIX path (NFC) -> file digest.
    """

    files: Mapping[str, str]

    @property
    def digest(self) -> str:
        """Merkle digest over names and contents; the same wherever the folder is."""
        return digest.of_tree(self.files)

    @property
    def images(self) -> list[str]:
        """Names of the pictures, sorted."""
        return sorted(name for name in self.files if Path(name).suffix.lower() in IMAGES)


@dataclass(frozen=True)
class Difference:
    """How one state of a dataset differs from another, by name."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def sentences(self) -> list[str]:
        """One line a difference, changed ones first."""
        named = (("changed", self.changed), ("removed", self.removed), ("added", self.added))
        return [f"{name}: {verb}" for verb, names in named for name in names]


def scan(folder: Path, cache: DigestCache) -> Listing:
    """List and hash a dataset folder (or one .jsonl file).

    Raises:
        NotFoundError: no such folder, or nothing in it that counts.
        InvalidFileError: links out of the folder, or names that differ only in case.
    """
    if folder.is_file():
        return Listing(cache.digests({folder.name: folder}))
    if not folder.is_dir():
        raise NotFoundError(
            f"there is no dataset at {folder.name}/",
            why="the folder does not exist here",
            fix="run lorareg pull to fetch its bytes, or correct dataset.path",
        )
    files = {name: path for name, path in _walk(folder) if path.suffix.lower() in IMAGES | CAPTIONS}
    if not files:
        raise NotFoundError(
            f"dataset {folder.name}/ is empty",
            why="it holds no .jpg, .png, .webp, .csv, .jsonl or .txt file",
            fix="put the pictures and captions, or a .jsonl of dialogues, into it",
        )
    _refuse_case_twins(folder, list(files))
    return Listing(cache.digests(files))


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> Difference:
    """Compare two maps of name -> digest."""
    return Difference(
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        changed=tuple(sorted(n for n in before.keys() & after.keys() if before[n] != after[n])),
    )


def _walk(folder: Path) -> list[tuple[str, Path]]:
    found = []
    top = folder.resolve()
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.startswith("."):
                continue
            path = Path(parent) / name
            if path.is_symlink() and not path.resolve().is_relative_to(top):
                raise InvalidFileError(
                    f"{folder.name}/{path.relative_to(folder).as_posix()} links out of the dataset",
                    fix="copy the file into the dataset",
                )
            relative = unicodedata.normalize("NFC", path.relative_to(folder).as_posix())
            found.append((relative, path))
    return found


def _refuse_case_twins(folder: Path, names: list[str]) -> None:
    seen: dict[str, str] = {}
    twins = []
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            twins.append(f"{other} and {name}")
    if twins:
        raise InvalidFileError(
            f"dataset {folder.name}/ has names that differ only in case",
            why="they are one file on macOS and Windows:\n" + listed(twins),
            fix="rename one of each pair",
        )
