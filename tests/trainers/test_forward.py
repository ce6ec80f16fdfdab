"""How the records of a step are cut into forward passes, for processes and for small memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lorareg.trainers.core.forward import shares
from lorareg.trainers.machine.ranks import Ranks

batches = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(
    lambda sizes: [[f"{b}.{i}" for i in range(size)] for b, size in enumerate(sizes)]
)


def names(batches: list[list[str]]) -> list[str]:
    return [name for batch in batches for name in batch]


@given(batches)
def test_one_process_with_room_computes_the_micro_batches_as_they_are(
    batches: list[list[str]],
) -> None:
    found = shares(batches, Ranks())

    assert [share.records for share in found] == batches
    assert [share.name for share in found] == [(number,) for number in range(len(batches))]


@given(batches, st.integers(1, 6), st.none() | st.integers(1, 4))
def test_all_processes_together_compute_every_record_once(
    batches: list[list[str]], count: int, limit: int | None
) -> None:
    every = [share for rank in range(count) for share in shares(batches, Ranks(rank, count), limit)]

    assert sorted(name for share in every for name in share.records) == sorted(names(batches))
    assert all(share.records for share in every)


@given(batches, st.integers(1, 6), st.none() | st.integers(1, 4))
def test_no_forward_pass_is_larger_than_memory_allows_or_mixes_micro_batches(
    batches: list[list[str]], count: int, limit: int | None
) -> None:
    for rank in range(count):
        for share in shares(batches, Ranks(rank, count), limit):
            assert limit is None or len(share.records) <= limit
            assert len({record.partition(".")[0] for record in share.records}) == 1


@given(batches, st.integers(1, 6), st.none() | st.integers(1, 4))
def test_every_forward_pass_has_dropout_masks_of_its_own(
    batches: list[list[str]], count: int, limit: int | None
) -> None:
    every = [share for rank in range(count) for share in shares(batches, Ranks(rank, count), limit)]

    assert len({share.name for share in every}) == len(every)


def test_two_processes_take_halves_of_one_micro_batch_and_whole_ones_of_several() -> None:
    one, four = [["a", "b", "c"]], [["a", "b"], ["c", "d"], ["e", "f"], ["g"]]

    assert [s.records for s in shares(one, Ranks(0, 2))] == [["a"]]
    assert [s.records for s in shares(one, Ranks(1, 2))] == [["b", "c"]]
    assert [s.records for s in shares(four, Ranks(1, 2))] == [["c", "d"], ["g"]]


def test_a_process_for_which_no_record_is_left_computes_nothing() -> None:
    assert shares([["a"]], Ranks(0, 2)) == []
    assert [share.records for share in shares([["a"]], Ranks(1, 2))] == [["a"]]
