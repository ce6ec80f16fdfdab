"""Who wrote a caption: ``captions.json`` marks what a machine wrote and what a person reviewed.

A mark holds the caption's digest. It counts only while the caption has this digest, so whoever
edits a caption by hand, in any program, makes it hand-written. The file is no part of the dataset's
digest: a review that changes no caption changes no training run.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from lorareg.errors import InvalidFileError
from lorareg.registry import digest, jsontext
from lorareg.registry.files import read_utf8, write_atomically
from lorareg.registry.schema import Strict, check

FILE = "captions.json"
SCHEMA: Literal["lorareg/captions/1"] = "lorareg/captions/1"
MAX_BYTES = 64_000_000


class Mark(Strict):
    """Of one caption: its digest, who wrote it (None: a person), and whether one looked at it."""

    caption: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$", description="sha256:...")]
    by: Annotated[str, Field(min_length=1, max_length=2000)] | None
    reviewed: bool


class _File(Strict):
    """``captions.json``."""

    schema_: Annotated[Literal["lorareg/captions/1"], Field(alias="schema")] = SCHEMA
    captions: dict[Annotated[str, Field(min_length=1, max_length=4096)], Mark]


@dataclass(frozen=True)
class Marks:
    """The marks of a dataset, by picture name (NFC)."""

    marks: Mapping[str, Mark] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> Marks:
        """Read the marks of a dataset; without the file there are none.

        Raises:
            InvalidFileError: the file is broken; it names every problem.
        """
        path = folder / FILE
        if not path.exists():
            return cls()
        name = f"{folder.name}/{FILE}"
        fix = f"restore {name}, or remove it: then every caption counts as written by hand"
        try:
            document = jsontext.parse(read_utf8(path, max_bytes=MAX_BYTES))
        except ValueError as error:
            raise InvalidFileError(f"{name} is not JSON", why=str(error), fix=fix) from error
        return cls(check(_File, document, name, fix=fix).captions)

    def is_machine(self, name: str, caption: str) -> bool:
        """Whether a machine wrote this caption and no person changed it since."""
        mark = self._of(name, caption)
        return mark is not None and mark.by is not None

    def is_reviewed(self, name: str, caption: str) -> bool:
        """Whether a person accepted this caption as it is."""
        mark = self._of(name, caption)
        return mark is not None and mark.reviewed

    def by(self, name: str) -> str | None:
        """The model that wrote the marked caption; None for a person's."""
        mark = self.marks.get(name)
        return mark.by if mark else None

    def mark(self, name: str, caption: str, by: str) -> Marks:
        """With a caption that a machine just wrote."""
        return self.replaced(name, Mark(caption=_digest(caption), by=by, reviewed=False))

    def reviewed(self, name: str, caption: str) -> Marks:
        """With a caption that a person accepted; one that they changed is theirs from now on."""
        by = self.by(name) if self.is_machine(name, caption) else None
        return self.replaced(name, Mark(caption=_digest(caption), by=by, reviewed=True))

    def replaced(self, name: str, mark: Mark | None) -> Marks:
        """With another mark for a name, or none."""
        others = {other: m for other, m in self.marks.items() if other != name}
        return Marks(others if mark is None else {**others, name: mark})

    def save(self, folder: Path) -> None:
        """Write ``captions.json``: canonical JSON, atomically.

        Where others may write too, use ``change``: this writes over what they wrote since ``load``.
        """
        document = _File(captions=dict(self.marks)).model_dump(mode="json", by_alias=True)
        write_atomically(folder / FILE, digest.canonical_json(document) + b"\n")

    def _of(self, name: str, caption: str) -> Mark | None:
        mark = self.marks.get(name)
        return mark if mark is not None and mark.caption == _digest(caption) else None


def change(folder: Path, edit: Callable[[Marks], Marks]) -> Marks:
    """Read the marks, change them and write them, while no other process does the same.

    Raises:
        InvalidFileError: ``captions.json`` is broken.
    """
    with writing(folder):
        marks = edit(Marks.load(folder))
        marks.save(folder)
    return marks


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Keep other lorareg processes from writing this dataset's captions; for moments only.

    The lock is on the folder itself, which leaves no file behind. Where folders cannot be locked
    (NFS) there is none; every write is still whole.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _digest(caption: str) -> str:
    """White space around a caption is no part of it: training strips it."""
    return digest.of_bytes(caption.strip().encode())
