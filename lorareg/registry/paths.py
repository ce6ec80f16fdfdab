"""Paths that people write in files and that must not lead out of the registry."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from lorareg.errors import InvalidFileError


def inside(text: str) -> str:
    """Return a relative POSIX path in normal form.

    Raises:
        ValueError: absolute, with ``..``, a backslash, a drive letter or a control character.
    """
    path = PurePosixPath(text)
    if path.is_absolute() or re.match(r"~|[A-Za-z]:", str(path)):
        raise ValueError("an absolute path leads out of the registry; write it relative to its top")
    if ".." in path.parts:
        raise ValueError("'..' may lead out of the registry; write it relative to its top")
    if "\\" in text or any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise ValueError("write paths with / and without control characters")
    if not path.parts:
        raise ValueError("an empty path names the whole registry")
    return str(path)


RESERVED = frozenset({".git", ".dvc", ".dvcstore", ".lorareg", "manifests"})


def dataset_path(text: str) -> str:
    """Return the path of a dataset: ``inside``, and none of the registry's own folders.

    Raises:
        ValueError: as ``inside``, or one of these folders.
    """
    path = inside(text)
    if PurePosixPath(path).parts[0] in RESERVED:
        raise ValueError("that is a folder of the registry itself; put datasets under data/")
    return path


def resolve_inside(root: Path, relative: str, rule: Callable[[str], str] = inside) -> Path:
    """Join ``relative`` to ``root`` and follow links.

    Args:
        root: the registry's top.
        relative: what people wrote.
        rule: ``inside`` or ``dataset_path``.

    Raises:
        InvalidFileError: the path leaves ``root``, also through a symbolic link.
    """
    try:
        name = rule(relative)
        path = root / name
    except ValueError as error:
        raise InvalidFileError(
            f"path {relative!r} is refused",
            why=str(error),
            fix="name a file or folder in the registry, such as data/char_zhangsan",
        ) from error
    if not _has_link(root, name):
        return path
    try:
        leads_out = not _followed(path).is_relative_to(root.resolve())
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop, before Python 3.13
        raise InvalidFileError(
            f"path {relative!r} is refused", why=str(error), fix="remove the symbolic link"
        ) from error
    if leads_out:
        raise InvalidFileError(
            f"path {relative!r} is refused",
            why="a symbolic link leads out of the registry",
            fix="copy the files into the registry instead of linking them",
        )
    return path


def _has_link(root: Path, name: str) -> bool:
    """Whether a step of the way down from the root is a link; without one nothing leads out."""
    place = str(root)
    for part in name.split("/"):
        place = f"{place}/{part}"
        try:
            if stat.S_ISLNK(os.lstat(place).st_mode):
                return True
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True  # to be named by who follows it
    return False


def _followed(path: Path) -> Path:
    """The path without links, also if it does not exist yet; a loop is an error in any Python."""
    try:
        return path.resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError):
        return path.resolve()
