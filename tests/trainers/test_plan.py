"""Which records a step sees."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorareg.errors import TrainingError
from lorareg.registry.training import Training, Validation
from lorareg.trainers.core.plan import Plan
from lorareg.trainers.core.randomness import Draws

IDS = [f"{number:02d}.png" for number in range(23)]


def plan(share: float = 0.0, seed: int = 1, ids: list[str] | None = None, **changes: int) -> Plan:
    training = Training(seed=seed, validation=Validation(share=share), **changes)
    return Plan.of(IDS if ids is None else ids, training)


def seen(found: Plan, steps: range, seed: int = 1) -> list[str]:
    draws = Draws(seed)
    return [
        record for step in steps for batch in found.micro_batches(step, draws) for record in batch
    ]


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 99))
def test_an_epoch_sees_every_record_once(batch: int, accumulation: int, seed: int) -> None:
    found = plan(0.1, seed, batch_size=batch, gradient_accumulation_steps=accumulation, epochs=2)

    first = seen(found, range(found.steps_per_epoch), seed)
    second = seen(found, range(found.steps_per_epoch, found.total), seed)

    assert Counter(first) == Counter(second) == Counter(found.train)
    assert all(
        len(group) <= batch
        for step in range(found.total)
        for group in found.micro_batches(step, Draws(seed))
    )


def test_the_order_is_another_in_every_epoch() -> None:
    found = plan(batch_size=4, epochs=2)

    assert seen(found, range(6)) != seen(found, range(6, 12))


def test_the_records_of_a_step_do_not_depend_on_how_they_are_split() -> None:
    whole = plan(batch_size=6, gradient_accumulation_steps=1)
    parts = plan(batch_size=2, gradient_accumulation_steps=3)

    for step in range(whole.total):
        assert seen(whole, range(step, step + 1)) == seen(parts, range(step, step + 1))
    assert [len(batch) for batch in parts.micro_batches(0, Draws(1))] == [2, 2, 2]
    assert [len(batch) for batch in parts.micro_batches(3, Draws(1))] == [2, 2, 1]


def test_steps_are_counted_with_the_last_smaller_one() -> None:
    found = plan(batch_size=4, gradient_accumulation_steps=2, epochs=3)

    assert (found.steps_per_epoch, found.total) == (3, 9)


def test_held_out_records_are_never_learned() -> None:
    found = plan(0.2)

    assert len(found.held_out) == 5
    assert sorted((*found.train, *found.held_out)) == IDS


def test_the_split_depends_on_the_seed_alone() -> None:
    assert plan(0.2).held_out == plan(0.2, batch_size=1, epochs=7).held_out
    assert plan(0.2).held_out != plan(0.2, seed=2).held_out


def test_a_small_share_still_holds_one_record_out_and_zero_none() -> None:
    assert len(plan(0.001).held_out) == 1
    assert plan(0.0).held_out == ()


def test_a_share_that_leaves_nothing_to_learn_is_an_error() -> None:
    with pytest.raises(TrainingError, match=r"1 record\(s\) cannot be split") as caught:
        plan(0.1, ids=["one.png"])

    assert "train.validation.share: 0" in caught.value.fix
