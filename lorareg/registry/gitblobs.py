"""Many files of the history at once: one git process, however many revisions they are of."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from lorareg.registry.gitcommand import call


def read(root: Path, names: Sequence[str]) -> dict[str, bytes]:
    """The bytes of ``revision:path`` for each name; what is not there is left out.

    A tag is named ``refs/tags/NAME:path``. Source of the format: git-cat-file(1), BATCH OUTPUT.
    """
    safe = [name for name in names if "\n" not in name]
    if not safe:
        return {}
    with tempfile.TemporaryDirectory(prefix="lorareg-") as folder:
        asked = Path(folder, "names")
        asked.write_bytes("".join(f"{name}\n" for name in safe).encode("utf-8", "surrogateescape"))
        with asked.open("rb") as stream:
            answer = call(root, ["cat-file", "--batch"], stdin=stream).must_succeed()
    return {
        name: data
        for name, data in zip(safe, _objects(answer.output), strict=True)
        if data is not None
    }


def _objects(output: bytes) -> Iterator[bytes | None]:
    """What each name came to: None where git says it is missing, or that it is no file."""
    place = 0
    while place < len(output):
        end = output.index(b"\n", place)
        words = output[place:end].split(b" ")
        place = end + 1
        if len(words) < 3 or words[-2] not in (b"blob", b"tree", b"commit", b"tag"):
            yield None
            continue
        size = int(words[-1])
        yield output[place : place + size] if words[-2] == b"blob" else None
        place += size + 1
