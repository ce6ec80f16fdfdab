"""What a disk still has after a power cut: only what was synced."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch


class PowerCut(BaseException):
    """The lights go out."""


class Disk:
    """Remembers what ``os.fsync`` made safe, and cuts the power at one of its calls.

    Args:
        after: calls that still go well.
    """

    def __init__(self, after: int) -> None:
        self._left = after
        self._content: dict[int, bytes] = {}  # of files by number, as they were synced
        self._names: dict[Path, dict[str, bytes]] = {}  # of folders that were synced

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within the block power goes out at the chosen call; then nothing unsynced is left."""
        try:
            with patch.object(os, "fsync", self._sync):
                yield
        except PowerCut:
            self._forget_the_rest()

    def _sync(self, descriptor: int) -> None:
        if self._left == 0:
            raise PowerCut
        self._left -= 1
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            files = [entry for entry in path.iterdir() if entry.is_file()]
            self._names[path] = {f.name: self._content.get(f.stat().st_ino, b"") for f in files}
            return
        self._content[os.fstat(descriptor).st_ino] = path.read_bytes()
        if path.name in self._names.get(path.parent, {}):
            self._names[path.parent][path.name] = path.read_bytes()

    def _forget_the_rest(self) -> None:
        for folder, names in self._names.items():
            for file in folder.iterdir():
                if file.is_file() and file.name not in names:
                    file.unlink()
            for name, content in names.items():
                (folder / name).write_bytes(content)
