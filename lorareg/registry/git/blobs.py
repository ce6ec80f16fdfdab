"""Many files of the history at once: one git process, however many revisions they are of."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from lorareg.registry.git.command import call

KINDS = ("blob", "tree", "commit", "tag")


def read(root: Path, names: Sequence[str]) -> dict[str, bytes]:
    """The bytes of ``revision:path`` for each name; what is not there is left out.

    A tag is named ``refs/tags/NAME:path``. Source of the format: git-cat-file(1), BATCH OUTPUT.
    """
    safe = [name for name in names if "\n" not in name]
    if not safe:
        return {}
    output = _asked(root, "--batch", safe)
    return {
        name: data for name, data in zip(safe, _objects(output), strict=True) if data is not None
    }


def look(root: Path, name: str) -> tuple[str, str, int] | None:
    """Id, kind and bytes of whatever a name means; None if nothing."""
    words = _asked(root, "--batch-check", [name]).decode("utf-8", "replace").split()
    if "\n" in name or len(words) != 3 or words[1] not in KINDS:
        return None
    return words[0], words[1], int(words[2])


def _asked(root: Path, how: str, names: Sequence[str]) -> bytes:
    with tempfile.TemporaryFile() as stream:  # a pipe could fill up while git answers
        stream.write("".join(f"{name}\n" for name in names).encode("utf-8", "surrogateescape"))
        stream.seek(0)
        return call(root, ["cat-file", how], stdin=stream).must_succeed().output


def _objects(output: bytes) -> Iterator[bytes | None]:
    """What each name came to: None where git says it is missing, or that it is no file."""
    place = 0
    while place < len(output):
        end = output.index(b"\n", place)
        words = output[place:end].split(b" ")
        place = end + 1
        if len(words) < 3 or words[-2].decode("ascii", "replace") not in KINDS:
            yield None
            continue
        size = int(words[-1])
        yield output[place : place + size] if words[-2] == b"blob" else None
        place += size + 1
