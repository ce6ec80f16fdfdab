"""A header is an attacker's letter: every claim that is not true is refused, naming the file."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from lorareg.errors import InvalidFileError
from lorareg.registry import header, tensors
from lorareg.registry.header import read_header

REFUSED = Path(__file__).parents[1] / "refused"
GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def with_header(table: Any, data: bytes = bytes(8)) -> bytes:
    """A file with this header: a value to write as JSON, or the header's own bytes."""
    raw = table if isinstance(table, bytes) else json.dumps(table).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def one(**claims: Any) -> bytes:
    """A file with one tensor of 8 bytes that claims something else."""
    return with_header({"a": GOOD | claims})


def two(first: list[int], second: list[int], data: bytes = bytes(8)) -> bytes:
    """A file with two tensors of one float each, at these places."""
    entry = {"dtype": "F32", "shape": [1]}
    return with_header(
        {"a": {**entry, "data_offsets": first}, "b": {**entry, "data_offsets": second}}, data
    )


HUGE = 1 << 63
HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "seven bytes": bytes(7),
    "length and nothing more": (2).to_bytes(8, "little"),
    "no header": bytes(8),
    "header longer than the file": (100).to_bytes(8, "little") + b"{}",
    "header of 2^64 - 1 bytes": b"\xff" * 8 + b"{}",
    "header over the limit": (header.MAX_HEADER + 1).to_bytes(8, "little") + b"{}",
    "not JSON": with_header(b"{a: 1}"),
    "a pickle": b"\x80\x04\x95" + bytes(100),
    "a zip": b"PK\x03\x04" + bytes(100),
    "JSON cut short": with_header(b'{"a":'),
    "more behind the JSON": with_header(b"{}{}"),
    "a list": with_header([]),
    "a number": with_header(7),
    "null": with_header(None),
    "space in front": with_header(b" {}"),
    "a byte-order mark": with_header(b"\xef\xbb\xbf{}"),
    "UTF-16": with_header('{"a": 1}'.encode("utf-16-le")),
    "not UTF-8": with_header(b'{"\xff": 1}'),
    "half a character in a name": with_header(b'{"\\ud800": 1}'),
    "half a character in the metadata": with_header(b'{"__metadata__": {"a": "\\uD800"}}', b""),
    "deep nesting": with_header(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "deep lists": with_header(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "a name twice": with_header(b'{"a": 1, "a": 1}'),
    "metadata twice": with_header(b'{"__metadata__": {}, "__metadata__": {}}', b""),
    "a field twice": with_header(
        b'{"a": {"dtype": "F32", "dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'
    ),
    "metadata of numbers": with_header({"__metadata__": {"a": 1}}, b""),
    "metadata of objects": with_header({"__metadata__": {"a": {}}}, b""),
    "metadata that is a list": with_header({"__metadata__": []}, b""),
    "metadata that is null": with_header({"__metadata__": None}, b""),
    "a tensor that is a number": with_header({"a": 1}),
    "no dtype": with_header({"a": {"shape": [2], "data_offsets": [0, 8]}}),
    "no shape": with_header({"a": {"dtype": "F32", "data_offsets": [0, 8]}}),
    "no offsets": with_header({"a": {"dtype": "F32", "shape": [2]}}),
    "another field": one(strides=[1]),
    "an unknown dtype": one(dtype="F4"),
    "a dtype in small letters": one(dtype="f32"),
    "a dtype that is a number": one(dtype=32),
    "a shape that is a number": one(shape=2),
    "a shape of text": one(shape=["2"]),
    "a negative shape": one(shape=[-2]),
    "two negative axes": one(shape=[-1, -2]),
    "a shape of floats": one(shape=[2.0]),
    "a shape of bools": one(dtype="F64", shape=[True]),
    "a shape of null": one(shape=[None]),
    "a shape of NaN": with_header(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}'),
    "a shape of infinity": with_header(
        b'{"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,8]}}'
    ),
    "more axes than numpy has": one(shape=[1] * 64 + [2]),
    "a shape that overflows to its size": one(dtype="U8", shape=[(1 << 32) + 8, 1 << 32]),
    "a shape of 2^63": one(shape=[HUGE]),
    "a number of 5,000 digits": with_header(
        b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,8]}}'
    ),
    "an axis of 0 beside absurd ones": with_header(
        {"a": GOOD | {"shape": [0, 1 << 40, 1 << 40], "data_offsets": [0, 0]}}, b""
    ),
    "a shape that is too large for its bytes": one(shape=[3]),
    "a shape that is too small for its bytes": one(shape=[1]),
    "one offset": one(data_offsets=[0]),
    "three offsets": one(data_offsets=[0, 4, 8]),
    "negative offsets": one(data_offsets=[-8, 0]),
    "offsets of floats": one(data_offsets=[0.0, 8.0]),
    "offsets of bools": with_header(
        {"a": {"dtype": "U8", "shape": [1], "data_offsets": [False, True]}}, bytes(1)
    ),
    "offsets of text": one(data_offsets=["0", "8"]),
    "offsets back to front": one(data_offsets=[8, 0]),
    "offsets of 2^63": one(data_offsets=[HUGE, HUGE + 8]),
    "offsets out of the file": one(data_offsets=[8, 16]),
    "a tensor that reaches out of the file": with_header({"a": GOOD}, bytes(7)),
    "bytes behind the last tensor": with_header({"a": GOOD}, bytes(9)),
    "bytes and no tensor": with_header({}, bytes(1)),
    "overlapping tensors": two([0, 4], [2, 6], bytes(6)),
    "one place for two tensors": two([0, 4], [0, 4], bytes(4)),
    "a hole": two([0, 4], [8, 12], bytes(12)),
    "a hole in front": one(data_offsets=[1, 9]) + b"\0",
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    def make(data: bytes) -> Path:
        (tmp_path / "hostile.safetensors").write_bytes(data)
        return tmp_path / "hostile.safetensors"

    return make


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_refused_by_name(write: Callable[[bytes], Path], data: bytes) -> None:
    path = write(data)

    for read in (read_header, tensors.read, tensors.tensor_digest):
        with pytest.raises(InvalidFileError, match=r"hostile\.safetensors") as caught:
            read(path)
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("path", sorted(REFUSED.glob("*.safetensors")), ids=lambda path: path.name)
def test_the_committed_attacks_are_refused(path: Path) -> None:
    with pytest.raises(InvalidFileError, match="not a valid safetensors file"):
        read_header(path)


def test_there_are_committed_attacks() -> None:
    assert len(list(REFUSED.glob("*.safetensors"))) >= 5


@pytest.mark.parametrize(
    "claim",
    [
        one(shape=[1 << 40], data_offsets=[0, 1 << 42]),
        b"\xff\xff\xff\xff\xff\xff\xff\x7f{}",
        (header.MAX_HEADER).to_bytes(8, "little") + b"{}",
    ],
)
def test_what_a_header_claims_is_never_allocated(
    write: Callable[[bytes], Path], claim: bytes
) -> None:
    path = write(claim)

    tracemalloc.start()
    with pytest.raises(InvalidFileError):
        tensors.read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 1_000_000


def test_a_flood_of_equal_keys_is_refused_at_once(write: Callable[[bytes], Path]) -> None:
    keys = b",".join(b'"%d":0' % number for number in range(200_000))

    with pytest.raises(InvalidFileError, match="twice"):
        read_header(write(with_header(b"{" + keys + b',"199999":0}')))


def test_more_tensors_than_any_model_has_are_refused(write: Callable[[bytes], Path]) -> None:
    keys = b",".join(b'"%d":0' % number for number in range(header.MAX_TENSORS + 1))

    with pytest.raises(InvalidFileError, match="tensors, over"):
        read_header(write(with_header(b"{" + keys + b"}")))


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hostile.safetensors"
    save_file({"a": np.arange(3, dtype=np.float32), "b": np.ones((2, 2))}, path, {"k": "v"})
    whole = path.read_bytes()

    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InvalidFileError, match=r"hostile\.safetensors"):
            read_header(path)


@given(st.binary(max_size=200))
def test_noise_is_refused(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.safetensors"
    path.write_bytes(with_header(noise))

    with pytest.raises(InvalidFileError):
        read_header(path)


@given(st.data())
def test_a_flipped_byte_of_the_header_is_refused_or_the_claims_still_fit(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    save_file({"a": np.arange(3, dtype=np.float32), "b": np.ones((2, 2))}, path, {"k": "v"})
    whole = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 45))
    whole[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(whole)

    try:
        found = read_header(path)
    except InvalidFileError:
        return

    assert sum(e.end - e.start for e in found.tensors) == 12 + 32
    for entry in found.tensors:
        size = math.prod(entry.shape) * header.ITEM_SIZE[entry.dtype]
        assert size == entry.end - entry.start


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.safetensors", tmp_path):
        with pytest.raises(InvalidFileError, match=f"cannot read {path.name}"):
            read_header(path)


def test_a_file_of_the_library_is_read_as_it_was_written(tmp_path: Path) -> None:
    arrays = {
        "f16": np.ones((2, 3), np.float16), "f32": np.ones(5, np.float32), "f64": np.ones(1),
        "i8": np.ones(3, np.int8), "u16": np.ones(2, np.uint16), "i64": np.ones(2, np.int64),
        "bool": np.ones(7, np.bool_), "scalar": np.array(3.0, np.float32),
        "none": np.zeros((0, 4), np.float32), "张三": np.ones(1, np.uint8),
    }  # fmt: skip
    metadata = {"format": "np", "标题": "张三", "long": "x" * 10_000}
    save_file(arrays, tmp_path / "a.safetensors", metadata)

    found = read_header(tmp_path / "a.safetensors")

    assert {e.name: e.shape for e in found.tensors} == {n: a.shape for n, a in arrays.items()}
    assert found.metadata == metadata


def test_a_file_without_tensors_or_metadata_is_read(tmp_path: Path) -> None:
    save_file({}, tmp_path / "a.safetensors")

    found = read_header(tmp_path / "a.safetensors")

    assert (found.tensors, found.metadata) == ((), {})
