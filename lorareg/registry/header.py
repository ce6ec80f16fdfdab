"""The header of a safetensors file, read with bounds and without torch.

Source: https://github.com/huggingface/safetensors#format. A header is attacker-controlled input:
everything it claims is checked against the file before any of it is used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorareg.errors import InvalidFileError
from lorareg.registry import jsontext

MAX_HEADER = 25_000_000  # bytes; huggingface_hub refuses more as well
MAX_TENSORS = 100_000
MAX_DIMENSIONS = 8
MAX_NUMBER = 1 << 48  # bytes or elements
ITEM_SIZE = {
    "BOOL": 1, "U8": 1, "I8": 1,
    "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
"""Bytes an element, by the format's dtype names; types of less than a byte are refused."""


@dataclass(frozen=True)
class TensorEntry:
    """One tensor as the header describes it; ``start`` and ``end`` are absolute file offsets."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """A checked header: the tensors in the order of their bytes, and the metadata."""

    tensors: tuple[TensorEntry, ...]
    metadata: Mapping[str, str]


def read_header(path: Path) -> Header:
    """Read and check the header of a safetensors file.

    Raises:
        InvalidFileError: the file is truncated, too large a header, not JSON, or its offsets
            overlap, leave holes or point outside of the file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > size - 8:
                raise _invalid(path, f"it is cut short: {size} bytes, header of {length}")
            if length > MAX_HEADER:
                raise _invalid(path, f"its header claims {length} bytes, over {MAX_HEADER}")
            raw = stream.read(length)
    except OSError as error:
        raise InvalidFileError(
            f"cannot read {path.name}", why=str(error), fix="check the path and its permissions"
        ) from error
    if not raw.startswith(b"{"):
        raise _invalid(path, "its header is not a JSON object")
    try:
        table = jsontext.parse(raw.decode())
    except ValueError as error:
        raise _invalid(path, f"its header is not JSON: {error}") from error
    metadata = _metadata(path, table.pop("__metadata__", {}))
    return Header(_entries(path, table, 8 + length, size), metadata)


def _metadata(path: Path, metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _invalid(path, "its metadata is not a map of strings")
    return metadata


def _entries(path: Path, table: dict[str, Any], origin: int, size: int) -> tuple[TensorEntry, ...]:
    if len(table) > MAX_TENSORS:
        raise _invalid(path, f"it claims {len(table)} tensors, over {MAX_TENSORS}")
    entries = sorted(
        (_entry(path, name, claim, origin) for name, claim in table.items()),
        key=lambda entry: (entry.start, entry.end),
    )
    position = origin
    for entry in entries:
        if entry.start != position:
            raise _invalid(path, f"tensor {entry.name[:80]!r} overlaps another or leaves a hole")
        position = entry.end
    if position != size:
        raise _invalid(path, f"its tensors end at byte {position}, the file at {size}")
    return tuple(entries)


def _entry(path: Path, name: str, claim: Any, origin: int) -> TensorEntry:
    tensor = f"tensor {name[:80]!r}"
    match claim:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [start, end], **rest}:
            numbers = [*shape, start, end]
        case _:
            raise _invalid(path, f"{tensor} lacks dtype, shape or data_offsets")
    if rest or len(shape) > MAX_DIMENSIONS:
        raise _invalid(path, f"{tensor} has unknown fields, or over {MAX_DIMENSIONS} axes")
    if dtype not in ITEM_SIZE:
        raise _invalid(path, f"{tensor} has an unknown dtype {dtype[:20]!r}")
    if not all(type(number) is int and 0 <= number < MAX_NUMBER for number in numbers):
        raise _invalid(path, f"{tensor} has a shape or offset that is no sane integer")
    if math.prod(filter(None, shape)) >= MAX_NUMBER:  # an axis of 0 would hide the others
        raise _invalid(path, f"{tensor} has an absurd shape {shape}")
    if math.prod(shape) * ITEM_SIZE[dtype] != end - start:
        raise _invalid(path, f"{tensor}: shape {shape} of {dtype} does not fill its bytes")
    return TensorEntry(name, dtype, tuple(shape), origin + start, origin + end)


def _invalid(path: Path, why: str) -> InvalidFileError:
    return InvalidFileError(
        f"{path.name} is not a valid safetensors file",
        why=why,
        fix="fetch or export the file again; if it came from someone else, do not load it",
    )
