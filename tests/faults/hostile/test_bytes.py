"""Weights that are not what the lock promises, wherever they come from, are refused and named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lorareg.registry import digest
from lorareg.registry.digest import DigestCache
from tests.faults.hostile.place import Place
from tests.registry.releases.team import git

FILE = "pytorch_lora_weights.safetensors"


HARMFUL = b"cos\nsystem\n(S'touch pickled'\ntR."  # a pickle that runs a command


def header_of(data: bytes, change: Callable[[dict[str, dict[str, object]]], None]) -> bytes:
    """The same file with another header of the same length, as far as it fits."""
    length = int.from_bytes(data[:8], "little")
    table = json.loads(data[8 : 8 + length])
    change(table)
    head = json.dumps(table, separators=(",", ":")).encode()
    head = head.ljust(length) if len(head) <= length else head
    return len(head).to_bytes(8, "little") + head + data[8 + length :]


def offsets(start: int, end: int) -> Callable[[bytes], bytes]:
    """The first tensor claims to be somewhere else."""

    def change(table: dict[str, dict[str, object]]) -> None:
        first = next(name for name in table if name != "__metadata__")
        table[first]["data_offsets"] = [start, end]

    return lambda data: header_of(data, change)


LIES: dict[str, Callable[[bytes], bytes]] = {
    "other bytes of the same size": lambda data: data[:-8] + bytes(8),
    "one bit": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "a longer file": lambda data: data + b"\0",
    "a shorter file": lambda data: data[:-1],
    "nothing": lambda data: b"",
    "tensors that overlap": offsets(4, 1540),
    "a tensor beyond the end": offsets(0, 1 << 40),
    "a negative offset": offsets(-8, 8),
    "a huge header": lambda data: (1 << 62).to_bytes(8, "little") + data[8:],
    "a pickle": lambda data: HARMFUL.ljust(len(data), b"\0"),
    "a ZIP of a pickle": lambda data: (b"PK\x03\x04" + HARMFUL).ljust(len(data)),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_remote_that_lies_is_refused_and_nothing_appears(lie: str, place: Place) -> None:
    weights = place.path(f"weights/{FILE}")
    object_ = _object(place, weights)
    data = weights.read_bytes()
    object_.chmod(0o644)
    object_.write_bytes(LIES[lie](data))
    shutil.rmtree(weights.parent)
    shutil.rmtree(place.root / ".dvc/cache")
    before = place.surroundings()

    answer = place.run("pull", "style/ink", "--no-git")

    assert (answer.code, answer.problems()) == (2, [])
    assert "style/ink" in answer.text or FILE in answer.text
    assert not weights.exists()
    assert not (place.root / "pickled").exists()
    assert place.surroundings() == before


@pytest.mark.parametrize("lie", [lie for lie in LIES if lie != "nothing"])
def test_weights_that_were_swapped_on_disk_are_never_used(lie: str, place: Place) -> None:
    weights = place.path(f"weights/{FILE}")
    data, stat = weights.read_bytes(), weights.stat()
    place.run("status")
    weights.chmod(0o644)
    weights.write_bytes(LIES[lie](data))
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    for command in (
        ("verify", "style/ink"), ("push", "style/ink"),
        ("compose", "style/ink:0.5+style/wash:0.5", "--dry-run"),
    ):  # fmt: skip
        answer = place.run(*command)
        assert answer.problems() == []
        assert answer.code in (1, 2), command
        assert "ink" in answer.text


def test_the_same_size_and_time_do_not_fool_the_memory_of_digests(tmp_path: Path) -> None:
    file = tmp_path / "a"
    memory = DigestCache(tmp_path / "digests.sqlite")
    wrong = 0
    for number in range(60):
        file.write_bytes(f"{number:08d}".encode())
        os.utime(file, ns=(10**18, 10**18))
        found = memory.digests({"a": file})["a"]
        wrong += found != digest.of_file(file)
    assert wrong == 0


SPECIAL: dict[str, Callable[[Place, Path], None]] = {
    "a link to the same bytes outside": lambda place, file: _link(
        file, place.outside / "weights" / FILE
    ),
    "a link to other bytes outside": lambda place, file: _link(file, place.outside / "passwd"),
    "a hard link to other bytes": lambda place, file: _hard(file, place.outside / "passwd"),
    "a pipe": lambda place, file: (file.unlink(), os.mkfifo(file))[1],
    "a folder": lambda place, file: (file.unlink(), file.mkdir())[1],
    "an extra file": lambda place, file: (file.parent / "extra.bin").write_bytes(b"x") and None,
    "an extra link": lambda place, file: (file.parent / "x").symlink_to(place.outside / "passwd"),
    "an extra pipe": lambda place, file: os.mkfifo(file.parent / "pipe"),
    "a linked folder": lambda place, file: _linked_folder(file.parent, place.outside / "weights"),
    "a folder linked to secrets": lambda place, file: _linked_folder(file.parent, place.outside),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_what_is_no_plain_file_among_weights_ends_no_command(name: str, place: Place) -> None:
    SPECIAL[name](place, place.path(f"weights/{FILE}"))
    before = place.surroundings()

    answers = [
        place.run(*command)
        for command in (("status",), ("verify", "style/ink"), ("push",), ("pull", "--no-git"))
    ]

    assert [problem for answer in answers for problem in answer.problems()] == []
    assert place.surroundings() == before
    assert not any("root:x" in (f.read_text("utf-8", "replace")) for f in _objects(place))


def test_an_extra_file_on_the_remote_does_not_come_along(place: Place) -> None:
    """A pointer that names a listing with one file more than the lock has."""
    from lorareg.registry.dvc import pointer

    store = place.root / ".dvcstore/files/md5"
    weights = place.path(f"weights/{FILE}")
    extra = place.root / "extra"
    extra.write_bytes(b"import os")
    md5s = {FILE: pointer.file_md5(weights), "extra.py": pointer.file_md5(extra)}
    listing = pointer.listing(md5s)
    name = pointer.listing_md5(listing)
    for md5, data in ((md5s["extra.py"], b"import os"), (name, listing)):
        (store / md5[:2]).mkdir(exist_ok=True)
        (store / md5[:2] / md5[2:]).write_bytes(data)
    size = weights.stat().st_size + 9
    place.path("weights.dvc").write_text(
        f"outs:\n- md5: {name}\n  size: {size}\n  nfiles: 2\n  hash: md5\n  path: weights\n"
    )
    shutil.rmtree(weights.parent)

    answer = place.run("pull", "style/ink", "--no-git")

    assert (answer.code, answer.problems()) == (2, [])
    assert not (weights.parent / "extra.py").exists()


def test_a_commit_that_brings_links_in_place_of_weights_is_refused(place: Place) -> None:
    folder = place.path("weights")
    shutil.rmtree(folder)
    folder.symlink_to("../../../../outside")
    place.git("add", "-f", "manifests/style/ink/weights")
    place.git("commit", "--quiet", "-m", "a link")
    before = place.surroundings()

    answers = [place.run("pull", "--no-git"), place.run("verify"), place.run("push")]

    assert [problem for answer in answers for problem in answer.problems()] == []
    assert place.surroundings() == before
    assert answers[0].code == 2
    assert git(place.root, "status", "--porcelain") is not None


def _object(place: Place, weights: Path) -> Path:
    from lorareg.registry.dvc import pointer

    md5 = pointer.file_md5(weights)
    return place.root / ".dvcstore/files/md5" / md5[:2] / md5[2:]


def _objects(place: Place) -> list[Path]:
    return [file for file in (place.root / ".dvcstore").rglob("*") if file.is_file()]


def _link(file: Path, target: Path) -> None:
    file.unlink()
    file.symlink_to(target)


def _hard(file: Path, target: Path) -> None:
    file.unlink()
    os.link(target, file)


def _linked_folder(folder: Path, target: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(target)
