"""Where things wait before they are deleted: moved, listed, and put back by one command.

A quarantine lies beside what it takes from, on the same file system, so that a move is one rename:
after a kill a thing is at its old place or in quarantine, and both are known from the list, which
is written before the first move.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import InvalidFileError, LoraregError
from lorareg.registry import jsontext
from lorareg.registry.files import read_utf8, write_atomically
from lorareg.registry.paths import inside

LIST = "moved.json"
TIME = "%Y-%m-%dT%H-%M-%S"
MAX_BYTES = 256_000_000


@dataclass(frozen=True)
class Batch:
    """What one run of gc moved.

    Attributes:
        folder: of the batch in the quarantine.
        moved: when, UTC.
        names: old places, relative to the top that they were taken from.
    """

    folder: Path
    moved: datetime.datetime
    names: tuple[str, ...]

    @property
    def waiting(self) -> list[str]:
        """Old places of what is in quarantine."""
        return [name for name in self.names if os.path.lexists(self.folder / "files" / name)]

    @property
    def size(self) -> int:
        """Bytes in quarantine."""
        return sum(size_of(self.folder / "files" / name) for name in self.waiting)


@dataclass(frozen=True)
class Quarantine:
    """One quarantine.

    Attributes:
        folder: where things wait.
        top: folder that they were taken from.
    """

    folder: Path
    top: Path

    def take(self, paths: Sequence[Path]) -> Batch:
        """Move files and folders out of ``top`` into a new batch.

        Raises:
            LoraregError: one of them is not below ``top``; nothing is moved then.
        """
        names = [self._name(path) for path in paths]
        now = datetime.datetime.now(datetime.UTC)
        folder = self._new(now)
        write_atomically(folder / LIST, json.dumps(names, ensure_ascii=False, indent=0) + "\n")
        for path, name in zip(paths, names, strict=True):
            target = folder / "files" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(path):  # else somebody else removed it meanwhile
                path.rename(target)
        return Batch(folder, now, tuple(names))

    def batches(self) -> list[Batch]:
        """Everything in quarantine, oldest first; a batch without a list holds nothing."""
        folders = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        return [batch for each in folders if (batch := _read(each)) is not None]

    def restore(self) -> tuple[list[Path], list[Path]]:
        """Put everything back where it was.

        Returns:
            What is back, and what stays in quarantine, as its place is taken again.
        """
        back: list[Path] = []
        taken: list[Path] = []
        for batch in reversed(self.batches()):
            for name in batch.waiting:
                old = self.top / name
                if os.path.lexists(old):
                    taken.append(old)
                    continue
                old.parent.mkdir(parents=True, exist_ok=True)
                (batch.folder / "files" / name).rename(old)
                back.append(old)
            if not batch.waiting:
                shutil.rmtree(batch.folder)
        return back, taken

    def put_back(self, wanted: Collection[Path]) -> list[Path]:
        """Put some things back where they were, unless their places are taken; returns those."""
        back = []
        for batch in self.batches():
            for name in batch.waiting:
                old = self.top / name
                if old in wanted and not os.path.lexists(old):
                    old.parent.mkdir(parents=True, exist_ok=True)
                    (batch.folder / "files" / name).rename(old)
                    back.append(old)
        return back

    def older(self, than: datetime.timedelta) -> list[Batch]:
        """The batches that have waited so long."""
        now = datetime.datetime.now(datetime.UTC)
        return [batch for batch in self.batches() if now - batch.moved >= than]

    def delete(self, batches: Iterable[Batch]) -> None:
        """Delete for good."""
        for batch in batches:
            shutil.rmtree(batch.folder)

    def _name(self, path: Path) -> str:
        if not path.is_relative_to(self.top):
            raise LoraregError(f"{path} is not moved", why=f"it is not below {self.top}")
        return inside(path.relative_to(self.top).as_posix())

    def _new(self, now: datetime.datetime) -> Path:
        for attempt in range(1000):
            folder = self.folder / f"{now.strftime(TIME)}-{attempt:03d}"
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue
            return folder
        raise LoraregError(f"{self.folder} has a thousand batches of this second")


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; links are not followed."""
    if path.is_dir() and not path.is_symlink():
        return sum(each.lstat().st_size for each in _files(path))
    return path.lstat().st_size


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)


def _read(folder: Path) -> Batch | None:
    try:
        moved = datetime.datetime.strptime(folder.name[:19], TIME).replace(tzinfo=datetime.UTC)
    except ValueError:
        return None
    file = folder / LIST
    if not file.is_file():
        return None
    return Batch(folder, moved, tuple(_names(file)))


def _names(file: Path) -> Iterable[str]:
    """The list, whose names must stay below the top: it decides where things are put back."""
    try:
        return [inside(str(name)) for name in jsontext.parse(read_utf8(file, max_bytes=MAX_BYTES))]
    except (ValueError, TypeError) as error:
        raise InvalidFileError(
            f"{file} is no list of what was moved",
            why=str(error),
            fix=f"look at {file.parent}/files and move by hand what you need",
        ) from error
