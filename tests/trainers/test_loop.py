"""The shared core: what it learns, when it stops, and what it refuses to go on with."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lorareg.errors import TrainingError
from lorareg.registry.manifest import Lora
from lorareg.registry.training import Validation
from lorareg.trainers.core import checkpoints, held_out
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.step import gradient
from lorareg.trainers.report import metrics
from lorareg.trainers.samples import Sampler
from tests.trainers.pico_images import SAMPLING, Case, Run

FIXED = Draws(7).at("validation", 0)


def move(run: Run) -> None:
    """Give every ``up`` matrix values, so that every gradient is one."""
    with torch.no_grad():
        for name, parameter in run.loop.state.parameters.items():
            parameter.copy_(Draws(5).normal(parameter.shape, name) * 0.1)


def fixed_loss(run: Run) -> float:
    run.adapters.train(False)
    with torch.no_grad():
        losses = [run.task.losses(run.task.ids, FIXED, number) for number in range(4)]
    return float(torch.stack(losses).mean())


def weights(run: Run) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in run.loop.state.parameters.items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(v, other[n]) for n, v in one.items())


def rows(folder: Path) -> list[dict[str, Any]]:
    return metrics.read(folder / "metrics.jsonl")


def test_the_loss_falls_when_few_pictures_are_seen_often(case: Case) -> None:
    few = replace(case, pictures=case.pictures[:3], lora=Lora(rank=8, targets=("conv_out",)))
    run = few.with_training(epochs=30, validation=Validation(share=0.0)).start()
    before = fixed_loss(run)

    run.loop.run()

    assert fixed_loss(run) < 0.8 * before


def test_the_same_run_twice_gives_the_same_bits(case: Case) -> None:
    first, second = case.start("first"), case.start("second")

    first.loop.run()
    second.loop.run()

    assert equal(weights(first), weights(second))
    assert rows(case.folder / "first") == rows(case.folder / "second")


def test_another_seed_gives_another_adapter(case: Case) -> None:
    first, second = case.start("first"), case.with_training(seed=7).start("second")

    first.loop.run()
    second.loop.run()

    assert not equal(weights(first), weights(second))


@pytest.mark.parametrize("gamma", [None, 5.0])
def test_a_batch_of_four_is_four_accumulated_batches_of_one(
    case: Case, gamma: float | None
) -> None:
    gradients, losses = [], []
    for batch, accumulation in ((4, 1), (1, 4), (2, 2)):
        run = case.with_training(
            batch_size=batch,
            gradient_accumulation_steps=accumulation,
            min_snr_gamma=gamma,
            max_grad_norm=0.0,
        ).start(f"{batch}x{accumulation}")
        move(run)
        # step 1 is the last of its epoch: three records instead of four
        losses.append([gradient(run.loop.setup, step).loss for step in (0, 1)])
        gradients.append([p.grad for p in run.loop.state.parameters.values()])

    for other in (1, 2):
        assert losses[other] == pytest.approx(losses[0], abs=1e-6)
        for expected, found in zip(gradients[0], gradients[other], strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_gradients_are_clipped_to_the_norm_that_was_set(case: Case) -> None:
    run = case.with_training(max_grad_norm=0.01).start()
    move(run)

    norm = gradient(run.loop.setup, 0).norm

    clipped = torch.stack(
        [p.grad.norm() for p in run.loop.state.parameters.values() if p.grad is not None]
    )
    assert norm > 0.01
    assert float(clipped.norm()) == pytest.approx(0.01, rel=1e-3)


def test_validation_is_the_same_every_time_and_leaves_no_trace(case: Case) -> None:
    run = case.start()
    move(run)
    before = weights(run)

    first, second = (held_out.loss(run.loop.setup) for _ in range(2))

    assert first == second
    assert equal(weights(run), before)
    assert all(p.grad is None for p in run.loop.state.parameters.values())


def test_validation_does_not_depend_on_the_batch_or_on_dropout(case: Case) -> None:
    found = []
    for batch in (1, 2):
        run = replace(case, lora=Lora(rank=4, dropout=0.5)).with_training(
            batch_size=batch, caption_dropout=0.5
        ).start(f"{batch}")  # fmt: skip
        move(run)
        found.append(held_out.loss(run.loop.setup))

    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_the_base_is_measured_first_and_every_epoch_after(case: Case) -> None:
    run = case.start()
    cursor = run.loop.run()

    measured = [row["step"] for row in rows(case.folder / "run") if "validation_loss" in row]

    assert measured == [0, 4, 8, 12, 16]
    assert cursor.base_loss == rows(case.folder / "run")[0]["validation_loss"]


def test_validation_may_come_every_few_steps_and_at_the_end(case: Case) -> None:
    rule = Validation(share=0.2, every_steps=5)
    case.with_training(validation=rule).start().loop.run()

    measured = [row["step"] for row in rows(case.folder / "run") if "validation_loss" in row]

    assert measured == [0, 5, 10, 15, 16]


def test_the_best_adapter_is_the_one_that_is_left(case: Case) -> None:
    # the rate climbs until the adapter gets worse again
    overshooting = replace(case, lora=Lora(rank=4, alpha=8, targets=("conv_out",))).with_training(
        learning_rate=0.2, warmup_steps=24, epochs=6, scheduler="constant"
    )
    run = overshooting.start()

    cursor = run.loop.run()

    losses = {
        r["step"]: r["validation_loss"]
        for r in rows(case.folder / "run")[1:]
        if "validation_loss" in r
    }
    assert cursor.best_loss == min(losses.values())
    assert losses[cursor.best_step] == cursor.best_loss
    assert 0 < cursor.best_step < cursor.step
    assert held_out.loss(run.loop.setup) == cursor.best_loss


def test_patience_ends_a_run_that_gets_no_better(case: Case) -> None:
    rule = Validation(share=0.2, patience=2, min_delta=100.0)
    run = case.with_training(validation=rule, epochs=50).start()

    cursor = run.loop.run()

    # the first validation of the adapter is the best by definition, two more are not
    assert (cursor.finished, cursor.step, cursor.best_step) == ("early", 12, 4)


def test_a_run_without_validation_keeps_its_last_adapter(case: Case) -> None:
    run = case.with_training(validation=Validation(share=0.0)).start()

    cursor = run.loop.run()

    assert (cursor.best_loss, cursor.base_loss, cursor.finished) == (None, None, "finished")
    assert cursor.step == run.loop.plan.total == 5 * 4


def test_an_adapter_no_better_than_the_base_is_noted(case: Case) -> None:
    wild = replace(case, lora=Lora(rank=4, alpha=8, targets=("conv_out",)))
    run = wild.with_training(learning_rate=0.3, epochs=2, scheduler="constant").start()

    run.loop.run()

    assert any("no better than the base" in note for note in run.watcher.notes)


def test_a_warm_up_longer_than_the_run_is_noted(case: Case) -> None:
    run = case.with_training(warmup_steps=500).start()

    run.loop.run()

    assert any("warm-up takes all 16 steps" in note for note in run.watcher.notes)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_step_and_records_and_keeps_the_checkpoint(
    case: Case, value: float
) -> None:
    run = case.with_training(save_steps=1).start()
    victim = run.loop.plan.micro_batches(2, run.loop.setup.draws)[0]
    spoil(run, victim[0], value)

    with pytest.raises(TrainingError) as caught:
        run.loop.run()

    found = checkpoints.latest(case.folder / "run" / "checkpoints")
    assert found is not None
    assert found[0].step == 2
    assert "the loss of step 3 is" in caught.value.what
    untouched = "the checkpoints of step 1, 2 are untouched"
    assert caught.value.why == f"records: {', '.join(victim)}; {untouched}"
    assert "--from-step" in caught.value.fix
    assert all(value.isfinite().all() for value in found[1]["adapter"].values())


def test_a_gradient_that_is_not_finite_stops_before_it_reaches_the_weights(case: Case) -> None:
    run = case.start()
    parameter = next(iter(run.loop.state.parameters.values()))
    parameter.register_hook(lambda gradient: gradient * math.nan)  # type: ignore[no-untyped-call]

    with pytest.raises(TrainingError, match="the gradient of step 1 is nan"):
        run.loop.run()

    assert parameter.isfinite().all()


def test_a_validation_loss_that_is_not_finite_is_an_error(case: Case) -> None:
    run = case.start()
    spoil(run, run.loop.plan.held_out[0], math.nan)

    with pytest.raises(TrainingError, match="the validation loss of step 0 is nan"):
        run.loop.run()


def test_an_adapter_that_did_not_move_is_an_error(case: Case) -> None:
    run = case.with_training(learning_rate=1e-60, epochs=1).start()

    with pytest.raises(TrainingError, match="did not move"):
        run.loop.run()


def test_samples_do_not_disturb_the_run(case: Case) -> None:
    dropouts = replace(case, lora=Lora(rank=4, dropout=0.3)).with_training(caption_dropout=0.3)
    quiet = dropouts.start("quiet")
    loud = dropouts.start(
        "loud",
        sample=lambda run, step: Sampler(
            run.task, run.adapters, SAMPLING, case.folder / "loud"
        ).keep(step),
        sample_steps=3,
    )

    quiet.loop.run()
    loud.loop.run()

    drawn = sorted(path.stem for path in (case.folder / "loud" / "samples").iterdir())
    assert drawn == [f"step-{step:06d}" for step in (3, 6, 9, 12, 15)]
    assert equal(weights(quiet), weights(loud))
    assert rows(case.folder / "quiet") == rows(case.folder / "loud")


def test_whatever_goes_wrong_in_a_sample_costs_no_step(case: Case) -> None:
    def fail(run: Run, step: int) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        case.start(sample=fail, sample_steps=3).loop.run()

    found = checkpoints.latest(case.folder / "run" / "checkpoints")
    assert found is not None
    assert found[0].step == 3


def test_the_metrics_hold_every_step_once(case: Case) -> None:
    run = case.start()

    run.loop.run()

    lines = (case.folder / "run" / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines]
    assert [row["step"] for row in steps if "loss" in row] == list(range(1, 17))
    assert set(steps[1]) == {"step", "loss", "learning_rate", "grad_norm"}
    assert run.watcher.steps == list(range(1, 17))


def test_bfloat16_trains_float32_adapters_to_the_same_bits_twice(case: Case) -> None:
    half = replace(case, runtime=replace(case.runtime, dtype="bfloat16"))
    first, second = half.start("first"), half.start("second")

    first.loop.run()
    second.loop.run()

    assert first.unet.conv_out.weight.dtype == torch.bfloat16
    assert {value.dtype for value in weights(first).values()} == {torch.float32}
    assert equal(weights(first), weights(second))


def test_bfloat16_learns_what_float32_learns(case: Case) -> None:
    losses = {}
    for dtype in ("float32", "bfloat16"):
        run = replace(case, runtime=replace(case.runtime, dtype=dtype)).start(dtype)
        losses[dtype] = run.loop.run().best_loss

    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.01)


def spoil(run: Run, record: str, value: float) -> None:
    """Put a number into the latents of a picture."""
    inputs = run.task.inputs
    inputs._latents[inputs._view(record)]["mean"][0, 0, 0] = value


def test_gradient_checkpointing_changes_no_bit(case: Case) -> None:
    dropping = replace(case, lora=Lora(rank=4, alpha=8, dropout=0.3)).with_training(epochs=2)
    kept = dropping.start("kept")
    again = dropping.with_training(gradient_checkpointing=True).start("again")
    blocks = [part for part in again.unet.modules() if hasattr(part, "gradient_checkpointing")]

    kept.loop.run()
    again.loop.run()

    assert all(block.gradient_checkpointing for block in blocks)
    assert equal(weights(kept), weights(again))
    assert rows(case.folder / "kept") == rows(case.folder / "again")
