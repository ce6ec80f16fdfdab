"""What a dataset is made of: its files, their digests, and how two states of it differ."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import InvalidFileError, NotFoundError, listed
from lorareg.registry import digest
from lorareg.registry.digest import DigestCache
from lorareg.registry.paths import inside

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
CAPTIONS = frozenset({".csv", ".jsonl", ".txt"})


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
        return [f"{name} {verb}" for verb, names in named for name in names]


def scan(folder: Path, cache: DigestCache) -> Listing:
    """List and hash a dataset folder (or one .jsonl file).

    Raises:
        NotFoundError: no such folder, or nothing in it that counts.
        InvalidFileError: links, special files, names that do not work everywhere, or names that
            are one file on another machine; every one is named.
    """
    if folder.is_file():
        return Listing(cache.digests({_normal(folder.name): folder}))
    if not folder.is_dir():
        raise NotFoundError(
            f"there is no dataset at {folder.name}/",
            why="the folder does not exist here",
            fix="run lorareg pull to fetch its bytes, or correct dataset.path",
        )
    found = [(name, path) for name, path in _walk(folder) if _counts(path)]
    if not found:
        raise NotFoundError(
            f"dataset {folder.name}/ is empty",
            why="it holds no .jpg, .png, .webp, .csv, .jsonl or .txt file",
            fix="put the pictures and captions, or a .jsonl of dialogues, into it",
        )
    _refuse_bad_files(folder, found)
    _refuse_twins(folder, [name for name, _ in found])
    return Listing(cache.digests({_normal(name): path for name, path in found}))


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> Difference:
    """Compare two maps of name -> digest."""
    return Difference(
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        changed=tuple(sorted(n for n in before.keys() & after.keys() if before[n] != after[n])),
    )


def _normal(name: str) -> str:
    """The composed form (NFC): macOS hands names out decomposed."""
    return unicodedata.normalize("NFC", name)


def _counts(path: Path) -> bool:
    return path.suffix.lower() in IMAGES | CAPTIONS or path.is_dir()


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """Everything but hidden files, in a fixed order; folders only if they are links."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in sorted([*names, *links]):
            if not name.startswith("."):
                path = Path(parent, name)
                yield path.relative_to(folder).as_posix(), path


def _refuse_bad_files(folder: Path, found: Sequence[tuple[str, Path]]) -> None:
    top = folder.resolve()
    problems = [f"{name!r}: {why}" for name, path in found if (why := _problem(name, path, top))]
    if problems:
        raise InvalidFileError(
            f"dataset {folder.name}/ has {len(problems)} files that cannot be used",
            why="\n" + listed(problems, limit=100),
            fix="copy what is linked into the dataset; rename or remove the others",
        )


def _problem(name: str, path: Path, top: Path) -> str | None:
    try:
        inside(name)
        name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    except ValueError as error:
        return str(error)
    if path.is_symlink():
        if not path.exists():
            return "it is a link to nothing"
        if not path.resolve().is_relative_to(top):
            return "it links out of the dataset"
        if path.is_dir():
            return "it is a link to a folder"
    return None if path.is_file() else "it is no regular file"


def _refuse_twins(folder: Path, names: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    twins = []
    for name in names:
        other = seen.setdefault(_normal(name).casefold(), name)
        if other != name:
            twins.append(f"{other!r} and {name!r}")
    if twins:
        raise InvalidFileError(
            f"dataset {folder.name}/ has names that differ only in case or in Unicode form",
            why="they are one file on macOS and Windows:\n" + listed(twins, limit=100),
            fix="rename one of each pair",
        )
