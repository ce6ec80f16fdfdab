from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from lorareg.registry import tensors
from lorareg.registry.digest import of_file
from lorareg.registry.header import ITEM_SIZE, read_header
from lorareg.registry.tensors import RawTensor

GOLDEN = Path(__file__).parents[1] / "golden/v1/canonical.safetensors"
GOLDEN_SHA256 = "sha256:8a09574f09afe180d62dee234e720f41d5fcd0866e11a57e0c28a46d5dba140c"
GOLDEN_TENSORS = (
    "tensors-sha256-v1:85441e0ba130a04f249b42d3e008d8a651f6d04cb55db39759b1d86292fe9118"
)

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(
    lambda name: name != "__metadata__"
)


@st.composite
def raw_tensors(draw: st.DrawFn) -> RawTensor:
    dtype = draw(st.sampled_from(sorted(ITEM_SIZE)))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    size = int(np.prod(shape)) * ITEM_SIZE[dtype]
    return RawTensor(dtype, shape, draw(st.binary(min_size=size, max_size=size)))


FILES = st.tuples(
    st.dictionaries(NAMES, raw_tensors(), max_size=4), st.dictionaries(NAMES, NAMES, max_size=4)
)


def example() -> tuple[dict[str, RawTensor], dict[str, str]]:
    """What the golden file holds: several sizes of items, an empty tensor, Unicode."""
    held = {
        "unet.b.lora.up.weight": RawTensor("F32", (2, 1), np.array([1.5, -2], "<f4").tobytes()),
        "unet.a.lora.down.weight": RawTensor("F16", (1, 3), np.arange(3).astype("<f2").tobytes()),
        "张三": RawTensor("I64", (), (7).to_bytes(8, "little")),
        "empty": RawTensor("F32", (0, 4), b""),
        "mask": RawTensor("BOOL", (3,), b"\x01\x00\x01"),
    }
    return held, {"format": "pt", "lorareg.asset": "character/zhangsan", "标题": '张三 "é"\n'}


@given(FILES, st.randoms(use_true_random=False))
def test_equal_content_in_any_order_gives_equal_bytes(
    tmp_path_factory: pytest.TempPathFactory,
    content: tuple[dict[str, RawTensor], dict[str, str]],
    random: Random,
) -> None:
    path = tmp_path_factory.getbasetemp() / "a.safetensors"
    written = []
    for _ in range(2):
        parts = [list(part.items()) for part in content]
        for part in parts:
            random.shuffle(part)
        tensors.write(path, dict(parts[0]), dict(parts[1]))
        written.append(path.read_bytes())

    assert written[0] == written[1]


@given(FILES)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    content: tuple[dict[str, RawTensor], dict[str, str]],
) -> None:
    path = tmp_path_factory.getbasetemp() / "a.safetensors"

    tensors.write(path, *content)

    assert tensors.read(path) == content


@given(FILES)
def test_the_digest_of_tensors_is_the_digest_of_their_file(
    tmp_path_factory: pytest.TempPathFactory,
    content: tuple[dict[str, RawTensor], dict[str, str]],
) -> None:
    path = tmp_path_factory.getbasetemp() / "a.safetensors"

    tensors.write(path, *content)

    assert tensors.tensor_digest(path) == tensors.digest_of(content[0])


def test_equal_content_gives_equal_bytes_in_every_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lorareg.registry import tensors\n"
        "from lorareg.registry.tensors import RawTensor\n"
        "names = list({f'module.{n}' for n in range(40)})\n"
        "metadata = {k: k for k in {f'key {n}' for n in range(40)}}\n"
        "held = {n: RawTensor('F32', (1,), n.encode()[-4:]) for n in names}\n"
        "tensors.write(Path(sys.argv[1]), held, metadata); print(names[:3])"
    )
    digests, orders = set(), set()
    for seed in ("0", "1", "2"):
        path = tmp_path / f"{seed}.safetensors"
        environment = os.environ | {"PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", code, str(path)]
        orders.add(subprocess.check_output(command, env=environment))
        digests.add(of_file(path))

    assert len(orders) > 1, "the processes did not shuffle"
    assert len(digests) == 1


def test_the_bytes_of_a_file_never_change(
    tmp_path: Path, same_as_file: Callable[[Path, bytes], None]
) -> None:
    path = tmp_path / "canonical.safetensors"

    tensors.write(path, *example())

    same_as_file(GOLDEN, path.read_bytes())
    assert of_file(GOLDEN) == GOLDEN_SHA256
    assert tensors.tensor_digest(GOLDEN) == GOLDEN_TENSORS


def test_the_library_loads_our_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    held, metadata = example()

    tensors.write(path, held, metadata)
    loaded = load_file(path)

    assert loaded.keys() == held.keys()
    for name, array in loaded.items():
        assert array.shape == held[name].shape
        assert array.tobytes() == held[name].data
    assert list(loaded["unet.b.lora.up.weight"].ravel()) == [1.5, -2.0]


def test_our_reader_reads_the_library_s_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    save_file({"a": array, "b": array.astype(np.float16)}, path, {"format": "np"})

    held, metadata = tensors.read(path)

    assert held["a"] == RawTensor("F32", (2, 3), array.tobytes())
    assert held["b"].dtype == "F16"
    assert metadata == {"format": "np"}


def test_data_begins_at_a_multiple_of_eight_bytes(tmp_path: Path) -> None:
    for length in range(9):
        path = tmp_path / "a.safetensors"
        tensors.write(path, {"a" * (length + 1): RawTensor("F64", (1,), bytes(8))}, {})

        assert read_header(path).tensors[0].start % 8 == 0


def test_the_tensor_digest_does_not_see_metadata_or_the_order_in_the_file(tmp_path: Path) -> None:
    arrays = {name: np.full(2, number, np.float32) for number, name in enumerate("abc")}
    save_file(arrays, tmp_path / "library.safetensors", {"made": "by the library"})
    held, _ = tensors.read(tmp_path / "library.safetensors")
    tensors.write(tmp_path / "ours.safetensors", held, {"made": "by us"})
    save_file(arrays | {"z": np.ones(1)}, tmp_path / "other.safetensors")

    digests = [
        tensors.tensor_digest(tmp_path / f"{name}.safetensors")
        for name in ("library", "ours", "other")
    ]

    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    "other",
    [
        {"a": RawTensor("F32", (2,), b"\0\0\0\0\0\0\0\1")},
        {"a": RawTensor("I32", (2,), bytes(8))},
        {"a": RawTensor("F32", (1, 2), bytes(8))},
        {"b": RawTensor("F32", (2,), bytes(8))},
        {"a": RawTensor("F32", (2,), bytes(8)), "b": RawTensor("F32", (0,), b"")},
    ],
)
def test_the_tensor_digest_changes_with_bytes_dtype_shape_and_name(
    other: dict[str, RawTensor],
) -> None:
    assert tensors.digest_of(other) != tensors.digest_of({"a": RawTensor("F32", (2,), bytes(8))})


def test_a_tensor_whose_bytes_do_not_fit_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="needs 8 bytes"):
        RawTensor("F32", (2,), bytes(7))
