"""Captions and marks as they are on disk at this moment, read again only when a file changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from lorareg.trainers.data import caption_marks, caption_table
from lorareg.trainers.data.caption_files import read_captions
from lorareg.trainers.data.caption_marks import Mark, Marks

Content = TypeVar("Content")


class _Fresh(Generic[Content]):
    """What a file holds now; reading 10,000 captions for each key press would be felt."""

    def __init__(self, path: Path, read: Callable[[], Content]) -> None:
        self._path = path
        self._read = read
        self._known: tuple[object, Content] | None = None

    def now(self) -> Content:
        state = self._state()
        if self._known is None or self._known[0] != state:
            self._known = (state, self._read())
        return self._known[1]

    def _state(self) -> object:
        """What changes when the file does; each of our own writes makes a new inode."""
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return None
        return (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


class Disk:
    """The caption table and the marks of one dataset folder.

    Args:
        folder: of the dataset.
        captions: what its manifest says: a caption file, or None for what is there.

    Raises:
        LoraregError: captions cannot be written where the manifest keeps them.
    """

    def __init__(self, folder: Path, captions: str | None) -> None:
        self._folder = folder
        self._named = captions
        self._path = caption_table.destination(folder, captions)
        self._table = _Fresh(self._path, lambda: read_captions(folder, (), self._path.name))
        self._marks = _Fresh(folder / caption_marks.FILE, lambda: Marks.load(folder))

    def captions(self, names: Sequence[str]) -> dict[str, str]:
        """Captions of these pictures, without white space around; "" where there is none.

        Raises:
            InvalidFileError: they cannot be read.
        """
        if self._path.exists():
            table = self._table.now()
        else:
            table = read_captions(self._folder, names, self._named)
        return {name: table.get(name, "").strip() for name in names}

    def marks(self) -> Marks:
        """The marks.

        Raises:
            InvalidFileError: they cannot be read.
        """
        return self._marks.now()

    def write(self, name: str, caption: str) -> None:
        """Put a caption into the table."""
        caption_table.update(self._folder, {name: caption}, self._named)

    def accept(self, name: str, caption: str) -> None:
        """Mark a caption as reviewed."""
        caption_marks.change(self._folder, lambda marks: marks.reviewed(name, caption))

    def restore(self, name: str, mark: Mark | None) -> None:
        """Put an earlier mark back."""
        caption_marks.change(self._folder, lambda marks: marks.replaced(name, mark))
