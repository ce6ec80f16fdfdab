"""Data that DVC is to know: into its cache, and a pointer beside them, many folders at a time.

``dvc add`` starts anew for every call; here its documented files are written directly, in the same
form. What DVC may see otherwise (a ``.dvcignore`` with rules, a cache that is shared or linked, an
executable file) is left to ``dvc add``.

Source: https://dvc.org/doc/user-guide/project-structure/internal-files
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import ExternalToolError
from lorareg.registry.digest import DigestCache
from lorareg.registry.dvc import copying, pointer, pointerfile
from lorareg.registry.dvc.objects import Objects
from lorareg.registry.dvc.pointer import Pointer
from lorareg.registry.git.command import call

WORKERS = 4  # copies at a time; hashing and copying leave Python's lock
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Candidate:
    """Data as they are on disk now.

    Attributes:
        path: file or folder, absolute.
        files: name -> file.
        md5s: name -> md5, as DVC names the bytes.
        size: bytes in all.
        known: what the pointer beside it says; None: there is none.
    """

    path: Path
    files: Mapping[str, Path]
    md5s: Mapping[str, str]
    size: int
    known: Pointer | None

    @property
    def listing(self) -> bytes:
        """Of a folder."""
        return pointer.listing(self.md5s)

    def pointer(self, remote: str | None) -> Pointer:
        """What the pointer has to say."""
        folder = self.path.is_dir()
        md5 = pointer.listing_md5(self.listing) if folder else self.md5s[self.path.name]
        file = pointer.pointer_path(self.path)
        return Pointer(file, self.path, md5, self.size, len(self.files), remote, self.is_executable)

    @property
    def is_executable(self) -> bool:
        """Whether it is a file that may be run."""
        return not self.path.is_dir() and os.access(self.path, os.X_OK)


def look(
    paths: Sequence[Path], known: Sequence[Pointer | None], md5s: DigestCache
) -> list[Candidate]:
    """Hash what is on disk, as far as it is not remembered; nothing else is written."""
    found = [pointer.files_of(path) for path in paths]
    named = {str(file): file for files in found for file in files.values()}
    hashed = md5s.digests(named)
    return [
        Candidate(
            path,
            files,
            {name: hashed[str(file)] for name, file in files.items()},
            sum(file.stat().st_size for file in files.values()),
            before,
        )
        for path, files, before in zip(paths, found, known, strict=True)
    ]


def refuse_in_git(root: Path, paths: Collection[Path]) -> None:
    """Refuse what git tracks already: the same bytes would be kept twice, and never ignored.

    Raises:
        ExternalToolError: it names the first one.
    """
    names = sorted(path.relative_to(root).as_posix() for path in paths)
    if not names:
        return
    literal = [f":(literal){name}" for name in names]
    listed = call(root, ["ls-files", "-z", "--", *literal])
    files = [name for name in listed.text.split("\0") if name] if listed.status == 0 else []
    if not files:
        return
    first = next(name for name in names if files[0] == name or files[0].startswith(f"{name}/"))
    raise ExternalToolError(
        f"git tracks {first} already",
        why="bytes that DVC is to carry are not kept in git as well",
        fix=f"git rm -r --cached '{first}'",
    )


def into_cache(candidates: Sequence[Candidate], cache: Objects, advance: Advance) -> None:
    """Copy into the cache what it lacks.

    Raises:
        ExternalToolError: a file changed while it was read.
    """

    def one(candidate: Candidate) -> None:
        for name, file in candidate.files.items():
            md5 = candidate.md5s[name]
            if not cache.place(md5).is_file():
                taken = copying.take(file, cache)
                if taken != md5:
                    raise ExternalToolError(
                        f"{name} changed while it was read",
                        why=f"something is writing to {candidate.path.name}/",
                        fix="run the command again when nothing writes to it",
                    )
            advance(file.stat().st_size)
        if candidate.path.is_dir():
            data = candidate.listing
            md5 = pointer.listing_md5(data)
            if not cache.place(md5).is_file() or cache.place(md5).stat().st_size != len(data):
                copying.put(data, md5, cache)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(one, candidates))


def write_pointers(
    candidates: Sequence[Candidate], remotes: Sequence[str | None], scratch: Path
) -> list[Pointer]:
    """Write pointers that differ, and keep the data out of git, as ``dvc add`` does."""
    written = []
    for candidate, remote in zip(candidates, remotes, strict=True):
        wanted = candidate.pointer(remote)
        if candidate.known != wanted:
            pointerfile.write(wanted, scratch)
        _ignore(candidate.path, scratch)
        written.append(wanted)
    return written


def _ignore(path: Path, scratch: Path) -> None:
    file, line = path.with_name(".gitignore"), f"/{_escaped(path.name)}"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    if line not in lines:
        pointerfile.put_in_place(file, "\n".join([*lines, line]) + "\n", scratch)


def _escaped(name: str) -> str:
    """A name as a pattern of .gitignore that means nothing else."""
    return "".join(f"\\{letter}" if letter in "[]!*#?" else letter for letter in name)
