"""What a dataset is made of: its files, their digests, and how two states of it differ."""

from __future__ import annotations

import os
import re
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
COUNTED = IMAGES | CAPTIONS
# Names of files that ``inside`` accepts whatever they are: most, and 10,000 calls take 0.1 s.
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_][A-Za-z0-9_./ -]*|[A-Za-z0-9_]\.[A-Za-z]+")


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
        return sorted(name for name in self.files if is_image(name))


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
        LoraregError: as ``files``.
    """
    return Listing(cache.digests(files(folder)))


def files(folder: Path) -> dict[str, os.PathLike[str]]:
    """The files that count, by name, judged but not read.

    Raises:
        NotFoundError: no such folder, or nothing in it that counts.
        InvalidFileError: links, special files, names that do not work everywhere, or names that
            are one file on another machine; every one is named.
    """
    if folder.is_file():
        return {_normal(folder.name): folder}
    if not folder.is_dir():
        raise NotFoundError(
            f"there is no dataset at {folder.name}/",
            why="the folder does not exist here",
            fix="run lorareg pull to fetch its bytes, or correct dataset.path",
        )
    found = list(_walk(folder, ""))
    if not found:
        raise NotFoundError(
            f"dataset {folder.name}/ is empty",
            why="it holds no .jpg, .png, .webp, .csv, .jsonl or .txt file",
            fix="put the pictures and captions, or a .jsonl of dialogues, into it",
        )
    _refuse_bad_files(folder, found)
    _refuse_twins(folder, [name for name, _ in found])
    return {_normal(name): entry for name, entry in found}


def is_image(name: str) -> bool:
    """Whether a file's ending is that of a picture.

    >>> is_image("a/01.JPG"), is_image("metadata.csv")
    (True, False)
    """
    return _ending(name) in IMAGES


def kept(names: Sequence[str], skip: Sequence[str]) -> list[str]:
    """The names that are neither skipped themselves nor in a skipped folder.

    >>> kept(["a.png", "b.png", "masks/a.png"], ["b.png", "masks/"])
    ['a.png']
    """
    single, folders = set(skip), tuple(name for name in skip if name.endswith("/"))
    return [name for name in names if name not in single and not name.startswith(folders)]


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


def _walk(folder: Path | os.DirEntry[str], prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Files that count, and links to folders, in a fixed order; hidden ones are left alone.

    One pass: what a file is comes with its name, so nothing is asked of the disk twice.
    """
    try:
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InvalidFileError(
            f"cannot list folder {prefix or folder.name}",
            why=str(error.strerror),
            fix="check that you may read it",
        ) from error
    folders = []
    for entry in ordered:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            folders.append(entry)
        elif _ending(entry.name) in COUNTED or (entry.is_symlink() and os.path.isdir(entry)):
            yield prefix + entry.name, entry
    for entry in folders:
        yield from _walk(entry, f"{prefix}{entry.name}/")


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _refuse_bad_files(folder: Path, found: Sequence[tuple[str, os.DirEntry[str]]]) -> None:
    top = folder.resolve()
    problems = [f"{name!r}: {why}" for name, entry in found if (why := _problem(name, entry, top))]
    if problems:
        raise InvalidFileError(
            f"dataset {folder.name}/ has {len(problems)} files that cannot be used",
            why="\n" + listed(problems, limit=100),
            fix="copy what is linked into the dataset; rename or remove the others",
        )


def _problem(name: str, entry: os.DirEntry[str], top: Path) -> str | None:
    if not (PLAIN.fullmatch(name) and name.isascii()):
        try:
            inside(name)
            name.encode()
        except UnicodeEncodeError:
            return "its name is not UTF-8"
        except ValueError as error:
            return str(error)
    if entry.is_symlink():
        path = Path(entry.path)
        if not path.exists():
            return "it is a link to nothing"
        if not path.resolve().is_relative_to(top):
            return "it links out of the dataset"
        if path.is_dir():
            return "it is a link to a folder"
    return None if entry.is_file() else "it is no regular file"


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
