"""Writing safetensors canonically, and the digest that is an adapter's identity.

The reference writer emits ``__metadata__`` in hash-map order, so equal content gives unequal files.
Here equal tensors and metadata give equal bytes: metadata sorted by key, tensors by item size
(largest first, for alignment) and then by name.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lorareg.errors import InvalidFileError
from lorareg.registry.digest import CHUNK
from lorareg.registry.files import replaced_atomically
from lorareg.registry.header import ITEM_SIZE, TensorEntry, read_header

ALIGNMENT = 8  # bytes; the data section starts on a multiple, as the reference writer does


@dataclass(frozen=True)
class RawTensor:
    """A tensor as bytes: safetensors dtype name, shape, little-endian row-major data."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    def __post_init__(self) -> None:
        expected = math.prod(self.shape) * ITEM_SIZE[self.dtype]
        if len(self.data) != expected:
            raise ValueError(f"{self.dtype}{self.shape} needs {expected} bytes: {len(self.data)}")


def write(path: Path, tensors: Mapping[str, RawTensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, atomically and canonically.

    Law: equal ``tensors`` and ``metadata`` give equal bytes, in any process on any machine.
    """
    names = sorted(tensors, key=lambda name: (-ITEM_SIZE[tensors[name].dtype], name))
    table: dict[str, object] = {}
    if metadata:
        table["__metadata__"] = dict(sorted(metadata.items()))
    position = 0
    for name in names:
        tensor = tensors[name]
        end = position + len(tensor.data)
        table[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    header = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-len(header) % ALIGNMENT)
    with replaced_atomically(path) as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        for name in names:
            stream.write(tensors[name].data)


def read(path: Path) -> tuple[dict[str, RawTensor], Mapping[str, str]]:
    """Read every tensor of a checked file as bytes, and its metadata."""
    header = read_header(path)
    tensors = {}
    with path.open("rb") as stream:
        for entry in header.tensors:
            data = b"".join(_chunks(stream, entry))
            tensors[entry.name] = RawTensor(entry.dtype, entry.shape, data)
    return tensors, header.metadata


def digest_of(tensors: Mapping[str, RawTensor]) -> str:
    """Digest over sorted (name, dtype, shape, bytes), as ``tensor_digest`` of a written file."""
    return _combine(
        (name, t.dtype, t.shape, hashlib.sha256(t.data).hexdigest())
        for name, t in sorted(tensors.items())
    )


def tensor_digest(path: Path) -> str:
    """Digest over sorted (name, dtype, shape, bytes); metadata and file order do not enter."""
    lines = []
    with path.open("rb") as stream:
        for entry in sorted(read_header(path).tensors, key=lambda entry: entry.name):
            hasher = hashlib.sha256()
            for chunk in _chunks(stream, entry):
                hasher.update(chunk)
            lines.append((entry.name, entry.dtype, entry.shape, hasher.hexdigest()))
    return _combine(lines)


def _chunks(stream: BinaryIO, entry: TensorEntry) -> Iterator[bytes]:
    stream.seek(entry.start)
    left = entry.end - entry.start
    while left:
        chunk = stream.read(min(CHUNK, left))
        if not chunk:
            raise InvalidFileError(
                f"{Path(stream.name).name} became shorter while it was read",
                fix="run the command again when nothing writes to it",
            )
        yield chunk
        left -= len(chunk)


def _combine(lines: Iterable[tuple[str, str, tuple[int, ...], str]]) -> str:
    whole = hashlib.sha256()
    for name, dtype, shape, data in lines:
        whole.update(json.dumps([name, dtype, list(shape), data]).encode() + b"\n")
    return f"tensors-sha256-v1:{whole.hexdigest()}"
