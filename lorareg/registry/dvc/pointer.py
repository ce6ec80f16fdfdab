"""A ``.dvc`` file: the small text in git that stands for bytes kept elsewhere. DVC is not needed.

DVC's md5 says which bytes are meant, so that they can be found; whether they are the right ones
is decided by the SHA-256 in a lock. The md5 of a folder is that of its listing, a JSON list of
(md5, name), and ends in ``.dir``.

Source: https://dvc.org/doc/user-guide/project-structure/dvc-files
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from lorareg.errors import InvalidFileError, listed
from lorareg.registry import digest, yamlfile
from lorareg.registry.files import read_utf8
from lorareg.registry.paths import inside, resolve_inside

MAX_BYTES = 16_384  # of a .dvc file; DVC writes about 100
MD5 = re.compile(r"[0-9a-f]{32}")
MD5_OR_FOLDER = re.compile(r"[0-9a-f]{32}(\.dir)?")
KEYS = {"md5", "size", "nfiles", "hash", "path", "remote", "isexec", "desc", "type", "labels"}
_md5 = partial(hashlib.md5, usedforsecurity=False)
MEMORY = ".dvc/tmp/lorareg.sqlite"  # md5s of files by (inode, size, mtime)
NEVER_TRACKED = {".git", ".hg", ".dvc"}  # DVC leaves them out; in a listing they are an attack

State = Literal["unchanged", "modified", "missing"]


@dataclass(frozen=True)
class Pointer:
    """Which bytes belong at a path.

    Attributes:
        file: the .dvc file, absolute.
        path: the file or folder it stands for, next to it.
        md5: of the bytes, or of the folder's listing, then with ".dir" at its end.
        size: bytes in all.
        nfiles: number of files.
        remote: name of the only DVC remote that holds the bytes; None means the default one.
        is_executable: whether the file, when put in place, may be run.
    """

    file: Path
    path: Path
    md5: str
    size: int
    nfiles: int
    remote: str | None = None
    is_executable: bool = False

    @property
    def is_folder(self) -> bool:
        """Whether it stands for a folder."""
        return self.md5.endswith(".dir")


def pointer_path(path: Path) -> Path:
    """The .dvc file of a tracked path: ``data/x`` has ``data/x.dvc``."""
    return path.with_name(f"{path.name}.dvc")


def read(root: Path, file: Path) -> Pointer:
    """Parse a .dvc file as plain ``dvc add`` writes it.

    Imports and pipeline stages are refused: DVC would download from where they say, or run
    commands.

    Raises:
        NotFoundError: there is no such file.
        InvalidFileError: not of that form, or it points elsewhere than next to itself.
    """
    name = os.path.relpath(root / file, root)
    file = resolve_inside(root, name)
    if file.is_file() and file.stat().st_size > MAX_BYTES:
        raise InvalidFileError(
            f"{name} is too large for a .dvc file", fix=f"git checkout -- {name}"
        )
    return parse(root, file, read_utf8(file, max_bytes=MAX_BYTES))


def parse(root: Path, file: Path, text: str) -> Pointer:
    """Read a .dvc file from text, as of another commit; raises as ``read``.

    Args:
        root: the registry's top, absolute.
        file: where it is or was, absolute.
        text: of the file.
    """
    name = _name(root, file)
    if len(text) > MAX_BYTES:
        raise InvalidFileError(
            f"{name} is too large for a .dvc file", fix=f"git checkout -- {name}"
        )
    document = yamlfile.parse(text, file)
    problems = list(_problems(document, file))
    if problems:
        raise InvalidFileError(
            f"{name} is not a pointer that lorareg follows",
            why="\n" + listed(problems),
            fix=f"track the data again: dvc add {name.removesuffix('.dvc')}",
        )
    out = document["outs"][0]
    path = resolve_inside(root, _name(root, file.with_name(out["path"])))
    return Pointer(
        file,
        path,
        out["md5"],
        out["size"],
        out.get("nfiles", 1),
        out.get("remote"),
        bool(out.get("isexec")),
    )


def state(pointer: Pointer) -> State:
    """Compare what is on disk with the pointer: count and size first, then the md5 of every byte.

    DVC is not started, so ``.dvcignore`` is not read: a file that it excludes counts as a
    modification here. ``Store.status`` asks DVC in that one case.
    """
    if not pointer.path.exists():
        return "missing"
    if not is_materialized(pointer):
        return "modified"
    found = folder_md5(pointer.path) if pointer.is_folder else file_md5(pointer.path)
    return "unchanged" if found == pointer.md5 else "modified"


def is_materialized(pointer: Pointer) -> bool:
    """Whether as many files and bytes as the pointer names are on disk (a stat a file)."""
    if pointer.path.is_dir() != pointer.is_folder or not pointer.path.exists():
        return False
    files = list(_walk(pointer.path)) if pointer.is_folder else [pointer.path]
    size = sum(file.stat().st_size for file in files if file.exists())
    return len(files) == pointer.nfiles and size == pointer.size


def file_md5(path: PathLike[str]) -> str:
    """DVC's name for a file's bytes; no protection against an attacker."""
    with digest.plain_file(path) as stream:
        return hashlib.file_digest(stream, _md5).hexdigest()


def folder_md5(folder: Path) -> str:
    """DVC's name for a folder: the md5 of its listing."""
    return listing_md5(listing({name: file_md5(path) for name, path in files_of(folder).items()}))


def files_of(path: Path) -> dict[str, Path]:
    """Every file that DVC counts, by its name in the folder; a single file by its own name."""
    if not path.is_dir():
        return {path.name: path}
    return {_name(path, file): file for file in _walk(path)}


def listing(md5s: Mapping[str, str]) -> bytes:
    """A folder's listing, out of name -> md5."""
    entries = [{"md5": md5s[name], "relpath": name} for name in sorted(md5s)]
    return json.dumps(entries, sort_keys=True).encode()


def listing_md5(data: bytes) -> str:
    """DVC's name for a folder with that listing."""
    return _md5(data).hexdigest() + ".dir"


def check_folder(folder: Path) -> None:
    """Refuse a folder with names that could not be checked out on every machine.

    Raises:
        InvalidFileError: such names, or links to nothing.
    """
    paths = {_name(folder, path): path for path in _walk(folder)}
    problems = [
        f"{name!r} is a link to nothing" for name, path in paths.items() if not path.exists()
    ]
    problems += _name_problems(paths)
    if problems:
        raise InvalidFileError(
            f"{folder.name}/ cannot be tracked",
            why="\n" + listed(problems),
            fix="rename or remove these files",
        )


def parse_listing(data: bytes, what: str) -> dict[str, str]:
    """Read a folder's listing: relative POSIX name -> md5.

    Raises:
        InvalidFileError: not a listing, or with names that lead out of the folder, into a
            repository's own files, or to one file on macOS and Windows.
    """
    try:
        document = json.loads(data)
        if not isinstance(document, list):
            raise TypeError("it is no list")
        entries = [(entry["relpath"], entry["md5"]) for entry in document]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InvalidFileError(f"the listing of {what} cannot be read", why=str(error)) from error
    if not all(isinstance(name, str) and MD5.fullmatch(str(md5)) for name, md5 in entries):
        raise InvalidFileError(f"the listing of {what} is not a list of names and md5s")
    problems = list(_name_problems(name for name, _ in entries))
    if problems:
        raise InvalidFileError(
            f"the listing of {what} is refused",
            why="\n" + listed(problems),
            fix="ask its owner to rename these files and to push again",
        )
    return dict(entries)


def _problems(document: dict[str, Any], file: Path) -> Iterator[str]:
    if file.suffix != ".dvc":
        yield "its name does not end in .dvc"
    for key in sorted(document.keys() - {"outs", "md5", "meta", "desc"}):
        yield f"key {key!r}: only plain 'dvc add' pointers are followed"
    outs = document.get("outs")
    if not (isinstance(outs, list) and len(outs) == 1 and isinstance(outs[0], dict)):
        yield "it does not have exactly one out"
        return
    yield from _out_problems(outs[0], file.name.removesuffix(".dvc"))


def _out_problems(out: dict[str, Any], neighbour: str) -> Iterator[str]:
    for key in sorted(out.keys() - KEYS):
        yield f"out key {key!r} is not known"
    if out.get("hash") != "md5":
        yield "no 'hash: md5': it was written by DVC 2"
    if not MD5_OR_FOLDER.fullmatch(str(out.get("md5"))):
        yield f"md5 {out.get('md5')!r} is not an md5"
    for key in ("size", "nfiles") if str(out.get("md5")).endswith(".dir") else ("size",):
        count = out.get(key)
        if type(count) is not int or count < 0:
            yield f"{key} {count!r} is not a count"
    if out.get("path") != neighbour or neighbour in ("", *NEVER_TRACKED):
        yield f"path {out.get('path')!r} is not the {neighbour!r} next to it"
    if not isinstance(out.get("remote"), str | None):
        yield f"remote {out.get('remote')!r} is not a name"


def _name_problems(names: Iterable[str]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for name in names:
        try:
            normal = inside(name)
        except ValueError as error:
            yield f"{name!r}: {error}"
            continue
        if normal != name:
            yield f"{name!r} is not in normal form"
        if NEVER_TRACKED & {part.casefold() for part in PurePosixPath(name).parts}:
            yield f"{name!r} belongs to a repository"
        key = unicodedata.normalize("NFC", name).casefold()
        if key in seen:
            yield f"{name!r} and {seen[key]!r} are one file on macOS and Windows"
        seen[key] = name


def _walk(folder: Path) -> Iterator[Path]:
    """Every file that DVC counts: links to files are followed, links to folders are not."""
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in NEVER_TRACKED]
        yield from (Path(parent, name) for name in files if name not in NEVER_TRACKED)


def _name(top: Path, path: Path) -> str:
    return path.relative_to(top).as_posix()
