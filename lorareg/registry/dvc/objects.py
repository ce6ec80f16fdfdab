"""Bytes by md5: the form of DVC's cache, and of a remote that is a folder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import IntegrityError, InvalidFileError, LoraregError, NotFoundError, listed
from lorareg.registry.dvc import pointer
from lorareg.registry.dvc.pointer import Pointer

MAX_LISTING_BYTES = 256_000_000  # of a folder's listing: some two million files
OBJECT = re.compile(r"[0-9a-f]{2}/[0-9a-f]{30}(\.dir)?")


@dataclass(frozen=True)
class Objects:
    """A folder in which the bytes with md5 abcdef... are the file ab/cdef...

    Nothing here says that the bytes are right: that is the lock's SHA-256.
    """

    folder: Path

    def place(self, md5: str) -> Path:
        """Where an object is, or would be."""
        return self.folder / md5[:2] / md5[2:]

    def listing(self, tracked: Pointer) -> dict[str, str]:
        """What a pointer stands for: name in the folder (a single file: its own) -> md5.

        Raises:
            NotFoundError: the listing is not here.
            IntegrityError: the listing is not the one that the pointer names.
            InvalidFileError: it has names that are refused.
        """
        if not tracked.is_folder:
            return {tracked.path.name: tracked.md5}
        file = self.place(tracked.md5)
        if not file.is_file():
            raise _not_here(tracked, ["the listing of its files"])
        if file.stat().st_size > MAX_LISTING_BYTES:
            raise InvalidFileError(f"the listing of {tracked.path.name}/ is too large")
        if self.has_damaged_listing(tracked):
            raise IntegrityError(
                f"the listing of {tracked.path.name}/ is damaged",
                why=f"its bytes are not those of md5 {tracked.md5}",
                fix="lorareg pull fetches it anew; if it comes damaged again, ask its owner to "
                "mend the remote and run: lorareg push",
            )
        return pointer.parse_listing(file.read_bytes(), f"{tracked.path.name}/")

    def files(self, tracked: Pointer) -> dict[str, Path]:
        """What a pointer stands for: name in the folder -> file here. Raises as ``listing``.

        Raises:
            NotFoundError: some are not here.
        """
        found = {name: self.place(md5) for name, md5 in self.listing(tracked).items()}
        missing = [name for name, place in found.items() if not place.is_file()]
        if missing:
            raise _not_here(tracked, missing)
        return found

    def holds(self, tracked: Pointer) -> bool:
        """Whether all bytes that a pointer stands for are here, right or wrong."""
        try:
            return not self.lacks([*self.listing(tracked).values(), tracked.md5])
        except LoraregError:
            return False

    def lacks(self, md5s: Iterable[str]) -> bool:
        """Whether one of these objects is not here."""
        return not all(self.place(md5).is_file() for md5 in md5s)

    def has_damaged_listing(self, tracked: Pointer) -> bool:
        """Whether a folder's listing is here with other bytes than its name says."""
        file = self.place(tracked.md5)
        if not (tracked.is_folder and file.is_file()):
            return False
        return pointer.file_md5(file) != tracked.md5.removesuffix(".dir")

    def discard(self, places: Sequence[Path]) -> None:
        """Remove objects that failed verification.

        Raises:
            LoraregError: a path that is no object here; nothing is removed then.
        """
        for place in places:
            name = place.relative_to(self.folder) if place.is_relative_to(self.folder) else place
            if not OBJECT.fullmatch(name.as_posix()):
                raise LoraregError(f"{place} is not removed", why="it is no object of the cache")
        for place in places:
            place.unlink(missing_ok=True)


def _not_here(tracked: Pointer, names: list[str]) -> NotFoundError:
    return NotFoundError(
        f"the bytes of {tracked.path.parent.name}/{tracked.path.name} are not here",
        why="\n" + listed(names, limit=5),
        fix="lorareg pull; if they are on no remote, ask the owner of the data to run lorareg push",
    )
