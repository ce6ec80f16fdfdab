"""The tensor cache: never stale, never half written, and worth its folder."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from lorareg.errors import InterruptedTrainingError
from lorareg.registry import digest
from lorareg.registry.digest import DigestCache
from lorareg.registry.memory import SEAL
from lorareg.trainers import cache
from lorareg.trainers.cache import TensorCache, key

FIELDS = ("mean", "size")


def value(name: str) -> Mapping[str, torch.Tensor]:
    number = float(len(name))
    return {
        "mean": torch.full((2, 3), number),
        "size": torch.tensor([int(number)], dtype=torch.int32),
    }


class Counting:
    """Computes, and remembers for what."""

    def __init__(self, fails_at: str | None = None) -> None:
        self.asked: list[str] = []
        self._fails_at = fails_at

    def __call__(self, name: str) -> Mapping[str, torch.Tensor]:
        if name == self._fails_at:
            raise KeyboardInterrupt
        self.asked.append(name)
        return value(name)


def shards(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_values_come_back_as_they_were_in_the_order_asked_for(tmp_path: Path) -> None:
    filled = TensorCache(tmp_path, FIELDS)
    filled.fill(["a", "bb", "a"], value)

    first, second = filled.get(["bb", "a"])

    assert torch.equal(first["mean"], torch.full((2, 3), 2.0))
    assert torch.equal(second["size"], torch.tensor([1], dtype=torch.int32))


def test_a_second_run_computes_only_what_is_new(tmp_path: Path) -> None:
    TensorCache(tmp_path, FIELDS).fill(["a", "bb"], value)
    compute = Counting()

    again = TensorCache(tmp_path, FIELDS)
    again.fill(["bb", "ccc", "a"], compute)

    assert compute.asked == ["ccc"]
    assert [int(v["size"]) for v in again.get(["a", "bb", "ccc"])] == [1, 2, 3]


def test_a_warm_cache_writes_nothing(tmp_path: Path) -> None:
    TensorCache(tmp_path, FIELDS).fill(["a"], value)
    before = [(path, path.stat().st_mtime_ns) for path in shards(tmp_path)]

    TensorCache(tmp_path, FIELDS).fill(["a"], Counting())

    assert [(path, path.stat().st_mtime_ns) for path in shards(tmp_path)] == before


def test_an_interruption_keeps_everything_computed_before_it(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        TensorCache(tmp_path, FIELDS).fill(["a", "bb", "ccc"], Counting(fails_at="ccc"))
    compute = Counting()

    TensorCache(tmp_path, FIELDS).fill(["a", "bb", "ccc"], compute)

    assert compute.asked == ["ccc"]


def test_a_kill_loses_at_most_one_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "SHARD_ENTRIES", 2)
    on_disk_before: list[int] = []

    def compute(name: str) -> Mapping[str, torch.Tensor]:
        on_disk_before.append(len(list(tmp_path.glob("*.safetensors"))))
        return value(name)

    TensorCache(tmp_path, FIELDS).fill(["a", "bb", "ccc", "dddd", "eeeee"], compute)

    assert on_disk_before == [0, 0, 1, 1, 2]


def test_slow_values_are_flushed_by_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "SHARD_SECONDS", 0.0)

    TensorCache(tmp_path, FIELDS).fill(["a", "bb", "ccc"], value)

    assert len(shards(tmp_path)) == 3


@pytest.mark.parametrize("place", [3, 60, -1], ids=["length", "header", "values"])
def test_a_shard_with_a_flipped_bit_is_dropped_and_computed_again(
    tmp_path: Path, place: int
) -> None:
    TensorCache(tmp_path, FIELDS).fill(["a", "bb"], value)
    (shard,) = shards(tmp_path)
    whole = shard.read_bytes()
    data = bytearray(whole)
    data[place] ^= 1
    shard.write_bytes(data)
    compute = Counting()

    again = TensorCache(tmp_path, FIELDS)
    again.fill(["a", "bb"], compute)

    assert compute.asked == ["a", "bb"]
    assert [path.read_bytes() for path in shards(tmp_path)] == [whole]
    assert torch.equal(again.get(["bb"])[0]["mean"], torch.full((2, 3), 2.0))


def test_a_shard_is_hashed_once_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest, "RACY_SECONDS", -1.0)  # all files count as changed long ago
    memory, folder = tmp_path / "digests.sqlite", tmp_path / "values"
    TensorCache(folder, FIELDS).fill(["a"], value)
    (shard,) = shards(folder)
    warm, changed = Counting(), Counting()

    TensorCache(folder, FIELDS, DigestCache(memory)).fill(["a"], warm)
    remembered = known(memory)
    TensorCache(folder, FIELDS, DigestCache(memory)).fill(["a"], warm)
    remembered_still = known(memory)
    shard.write_bytes(shard.read_bytes()[:-1] + b"!")
    TensorCache(folder, FIELDS, DigestCache(memory)).fill(["a"], changed)

    assert remembered == remembered_still == [f"sha256:{shard.stem}"]
    assert (warm.asked, changed.asked) == ([], ["a"])


def test_what_advance_raises_ends_the_work_and_keeps_what_was_done(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise InterruptedTrainingError("stopped")

    with pytest.raises(InterruptedTrainingError):
        TensorCache(tmp_path, FIELDS).fill(["a", "bb", "ccc"], value, stop)

    assert TensorCache(tmp_path, FIELDS).missing(["a", "bb", "ccc"]) == ["ccc"]


def known(memory: Path) -> list[str]:
    with sqlite3.connect(memory) as database:
        return [row[0][SEAL:] for row in database.execute("select digest from seen")]


def test_a_shard_that_was_cut_short_is_dropped_and_the_others_are_kept(tmp_path: Path) -> None:
    TensorCache(tmp_path, FIELDS).fill(["a"], value)
    (first,) = shards(tmp_path)
    TensorCache(tmp_path, FIELDS).fill(["bb"], value)
    first.write_bytes(first.read_bytes()[:-4])
    compute = Counting()

    TensorCache(tmp_path, FIELDS).fill(["a", "bb"], compute)

    assert compute.asked == ["a"]


def test_another_kind_of_value_is_not_taken_for_this_one(tmp_path: Path) -> None:
    TensorCache(tmp_path, ("mean",)).fill(["a"], lambda name: {"mean": torch.zeros(1)})

    assert TensorCache(tmp_path, FIELDS).missing(["a"]) == ["a"]


def test_a_file_that_is_being_written_is_no_shard(tmp_path: Path) -> None:
    (tmp_path / ".half.safetensors.1234.tmp").write_bytes(b"half")

    TensorCache(tmp_path, FIELDS).fill(["a"], value)

    assert (tmp_path / ".half.safetensors.1234.tmp").is_file()


def test_progress_counts_what_is_missing(tmp_path: Path) -> None:
    TensorCache(tmp_path, FIELDS).fill(["a"], value)
    told: list[tuple[int, int]] = []

    TensorCache(tmp_path, FIELDS).fill(["a", "bb", "ccc"], value, lambda *at: told.append(at))

    assert told == [(1, 2), (2, 2)]


def test_a_key_is_of_all_its_parts_and_their_borders() -> None:
    keys = {key("ab", "c"), key("a", "bc"), key("abc"), key("ab", "c", ""), key("c", "ab")}

    assert len(keys) == 5
    assert key("ab", "c") in keys
