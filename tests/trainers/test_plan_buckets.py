"""The order of records of several shapes: one shape a forward pass, every record once an epoch."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from lorareg.registry.image_training import ImageTraining
from lorareg.registry.training import Validation
from lorareg.trainers.core.plan import Plan
from lorareg.trainers.core.randomness import Draws

SHAPES = st.lists(st.sampled_from(["64x64", "48x80", "80x48", "32x96"]), min_size=2, max_size=40)


def plan(shapes: list[str], *, share: float = 0.0, shaped: bool = True, **changes: int) -> Plan:
    ids = [f"{number:02d}.png" for number in range(len(shapes))]
    of = dict(zip(ids, shapes, strict=True))
    training = ImageTraining(seed=1, validation=Validation(share=share)).model_copy(update=changes)
    return Plan.of(ids, training, of.__getitem__) if shaped else Plan.of(ids, training)


def shape(shapes: list[str], name: str) -> str:
    return shapes[int(name.removesuffix(".png"))]


@given(SHAPES, st.integers(1, 5), st.integers(1, 3), st.floats(0, 0.5))
@settings(max_examples=80, derandomize=True)
def test_every_record_is_seen_once_an_epoch_among_its_like(
    shapes: list[str], batch: int, accumulation: int, share: float
) -> None:
    found = plan(
        shapes, share=share, batch_size=batch, gradient_accumulation_steps=accumulation, epochs=2
    )
    draws = Draws(1)

    steps = [found.micro_batches(step, draws) for step in range(found.total)]

    per_epoch = found.steps_per_epoch
    assert found.total == 2 * per_epoch
    for epoch in (steps[:per_epoch], steps[per_epoch:]):
        assert all(epoch), "no step is empty"
        batches = [batch for step in epoch for batch in step]
        assert Counter(name for batch in batches for name in batch) == Counter(found.train)
        for each in batches:
            assert len(each) <= batch
            assert len({shape(shapes, name) for name in each}) == 1
    full = [step for step in steps[: per_epoch - 1] if len(step) != accumulation]
    assert full == []


@given(SHAPES, st.integers(1, 5), st.floats(0, 0.5))
@settings(max_examples=40, derandomize=True)
def test_held_out_records_are_measured_among_their_like(
    shapes: list[str], batch: int, share: float
) -> None:
    found = plan(shapes, share=share, batch_size=batch)

    assert sorted(found.held_out + found.train) == sorted(
        f"{number:02d}.png" for number in range(len(shapes))
    )
    for each in found.held_out_batches:
        assert 0 < len(each) <= batch
        assert len({shape(shapes, name) for name in each}) == 1


def test_one_shape_is_the_plan_without_shapes() -> None:
    """What was trained before there were shapes stays what it is."""
    same = ["64x64"] * 23
    changes = {"batch_size": 2, "gradient_accumulation_steps": 3, "epochs": 3}

    shaped, plain = plan(same, share=0.2, **changes), plan(same, share=0.2, shaped=False, **changes)

    assert shaped.total == plain.total
    assert shaped.held_out_batches == plain.held_out_batches
    for step in range(plain.total):
        assert shaped.micro_batches(step, Draws(1)) == plain.micro_batches(step, Draws(1))


def test_the_split_does_not_depend_on_shapes() -> None:
    mixed = ["64x64", "32x96"] * 10

    assert set(plan(mixed, share=0.2).held_out) == set(
        plan(mixed, share=0.2, shaped=False).held_out
    )


def test_a_step_is_the_same_whatever_was_asked_before() -> None:
    found = plan(["64x64", "48x80", "80x48"] * 8, batch_size=2, epochs=4)

    forward = [found.micro_batches(step, Draws(1)) for step in range(found.total)]
    backward = [found.micro_batches(step, Draws(1)) for step in reversed(range(found.total))]

    assert forward == backward[::-1]


def test_shapes_are_mixed_over_an_epoch_and_differently_in_each() -> None:
    shapes = ["64x64"] * 20 + ["32x96"] * 20
    found = plan(shapes, batch_size=2, epochs=2)

    seen = [
        shape(shapes, batch[0])
        for step in range(found.total)
        for batch in found.micro_batches(step, Draws(1))
    ]

    first, second = seen[:20], seen[20:]
    assert Counter(first) == Counter(second) == {"64x64": 10, "32x96": 10}
    assert sum(a != b for a, b in zip(first, first[1:], strict=False)) > 4
    assert first != second


def test_a_step_may_gather_gradients_of_several_shapes() -> None:
    mixed = ["64x64", "32x96"] * 8
    found = plan(mixed, batch_size=2, gradient_accumulation_steps=4)

    (first, second) = (found.micro_batches(step, Draws(1)) for step in range(2))

    assert [len(first), len(second), found.steps_per_epoch] == [4, 4, 2]
    assert {shape(mixed, batch[0]) for batch in first} == {"64x64", "32x96"}
