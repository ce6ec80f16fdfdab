"""Whatever ends a run early, and however often: it ends as the run that never was interrupted.

Hypothesis picks the settings and the moments. The runs are those of a tiny task (``lines``); images
and processes that are really killed are in ``test_resume``.
"""

from __future__ import annotations

import importlib.util
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lorareg.errors import InterruptedTrainingError, TrainingError
from lorareg.registry.manifest import Lora
from lorareg.registry.training import Training, Validation
from lorareg.trainers.core import checkpoints
from lorareg.trainers.core.loop import Loop
from lorareg.trainers.report import metrics
from tests.trainers.lines import Lab, Lines, assert_like, saved, told
from tests.trainers.power import Disk

LIBRARIES = {"lion": "lion_pytorch", "prodigy": "prodigyopt", "schedule-free": "schedulefree"}
OPTIMIZERS = [
    "adamw",
    "adafactor",
    *(k for k, v in LIBRARIES.items() if importlib.util.find_spec(v)),
]


class Killed(BaseException):
    """The process is gone, with all that was in its memory."""


@dataclass(frozen=True)
class Interruption:
    """One way for a run to end early: ``how`` is "stop", "kill" or "power"; ``when`` counts steps
    of the run, or calls that make a file safe."""

    how: str
    when: int


def strike(lab: Lab, interruption: Interruption) -> None:
    """Run until it is interrupted, or to its end if that comes first."""

    def die(step: int) -> None:
        if interruption.how == "kill" and step >= interruption.when:
            raise Killed

    def asked(step: int) -> bool:
        return interruption.how == "stop" and step >= interruption.when

    disk = Disk(interruption.when if interruption.how == "power" else 10_000)
    try:
        with disk.watched():
            lab.start("broken", stop=asked, each_step=die).run()
    except (Killed, InterruptedTrainingError):
        return


def of_optimizer(name: str) -> st.SearchStrategy[Training]:
    """Settings that go with an optimizer: Prodigy finds the rate itself, schedule-free averages."""
    prodigy = name == "prodigy"
    return st.builds(
        Training,
        optimizer=st.just(name),
        learning_rate=st.just(1.0 if prodigy else 1e-2),
        loraplus_lr_ratio=st.sampled_from([1.0] if prodigy else [1.0, 4.0]),
        scheduler=st.sampled_from(["constant"] if name == "schedule-free" else ["cosine", "rex"]),
        batch_size=st.integers(1, 4),
        gradient_accumulation_steps=st.integers(1, 3),
        epochs=st.integers(1, 3),
        warmup_steps=st.integers(0, 2),
        ema=st.sampled_from([None] if name == "schedule-free" else [None, 0.8]),
        precision=st.just("fp32"),
        save_steps=st.integers(1, 5),
        keep_checkpoints=st.integers(1, 3),
        validation=st.builds(
            Validation,
            share=st.sampled_from([0.0, 0.2]),
            every_steps=st.sampled_from([None, 1, 3]),
            patience=st.sampled_from([None, 1, 2]),
            min_delta=st.sampled_from([0.0, 0.5]),
        ),
    )


trainings = st.sampled_from(OPTIMIZERS).flatmap(of_optimizer)
interruptions = st.lists(
    st.builds(
        Interruption, how=st.sampled_from(["stop", "kill", "power"]), when=st.integers(1, 20)
    ),
    min_size=1,
    max_size=4,
)


@settings(derandomize=True, max_examples=30, deadline=None, phases=[Phase.generate])
@given(trainings, interruptions, st.booleans(), st.sampled_from([0.0, 0.3]))
def test_an_interrupted_run_ends_like_the_straight_one(
    training: Training, interruptions: list[Interruption], several_shapes: bool, dropout: float
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(
            Path(folder),
            training,
            Lora(rank=2, alpha=4, dropout=dropout),
            task=lambda: Lines(several_shapes),
        )
        straight = lab.start("straight")
        straight.run()
        for interruption in interruptions:
            strike(lab, interruption)
        broken = lab.start("broken")
        broken.run()

        assert_like(broken, straight)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Ten records to learn from in 15 steps, a checkpoint every second."""
    return Lab(tmp_path).with_training(save_steps=2, keep_checkpoints=100, ema=0.8)


def test_a_finished_run_goes_back_to_a_checkpoint_and_ends_as_before(lab: Lab) -> None:
    straight, again = lab.start("straight"), lab.start("again")
    straight.run()
    again.run()

    checkpoints.roll_back(again.folder / "checkpoints", 6)
    once_more = lab.start("again")
    once_more.run()

    assert told(once_more).steps == list(range(7, 16))
    assert_like(once_more, straight)


def test_going_back_brings_back_the_patience_of_that_step(lab: Lab) -> None:
    rule = Validation(share=0.2, every_steps=1, patience=4, min_delta=100.0)
    impatient = lab.with_training(validation=rule)
    straight = impatient.start("straight")
    straight.run()
    impatient.start("again").run()

    checkpoints.roll_back(impatient.folder / "again" / "checkpoints", 2)
    again = impatient.start("again")
    again.run()

    assert (again.cursor.finished, again.cursor.step, told(again).steps) == ("early", 5, [3, 4, 5])
    assert_like(again, straight)


def test_going_back_to_a_step_without_a_checkpoint_lists_those_there_are(lab: Lab) -> None:
    run = lab.with_training(save_steps=5, keep_checkpoints=2).start()
    run.run()

    with pytest.raises(TrainingError) as caught:
        checkpoints.roll_back(run.folder / "checkpoints", 7)

    assert caught.value.why == "there are those of step 10, 15"
    assert "--from-step 15" in caught.value.fix
    assert checkpoints.steps(run.folder / "checkpoints") == [10, 15]


def test_a_run_without_checkpoints_cannot_go_back(lab: Lab) -> None:
    with pytest.raises(TrainingError, match="there is no checkpoint of step 7"):
        checkpoints.roll_back(lab.folder / "none", 7)


def test_a_damaged_checkpoint_is_no_place_to_go_back_to(lab: Lab) -> None:
    run = lab.start()
    run.run()
    path = run.folder / "checkpoints" / "step-00000006.safetensors"
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(TrainingError, match="there is no checkpoint of step 6"):
        checkpoints.roll_back(run.folder / "checkpoints", 6)


@pytest.mark.parametrize("keep", [1, 3])
def test_as_many_checkpoints_stay_as_the_manifest_says(lab: Lab, keep: int) -> None:
    run = lab.with_training(keep_checkpoints=keep).start()

    run.run()

    assert checkpoints.steps(run.folder / "checkpoints") == [12, 14, 15][-keep:]


def test_when_files_are_written_may_change_in_the_middle_of_a_run(lab: Lab) -> None:
    straight = lab.start("straight")
    straight.run()
    strike(lab.with_training(save_steps=3, keep_checkpoints=1), Interruption("kill", 8))

    broken = lab.with_training(save_steps=1, keep_checkpoints=5).start("broken")
    broken.run()

    assert told(broken).steps[0] == 7
    assert_like(broken, straight)


def test_weights_that_are_not_finite_never_become_a_checkpoint(lab: Lab) -> None:
    def spoil(step: int) -> None:
        if step == 6:
            parameter = next(iter(run.state.parameters.values()))
            parameter.data[0, 0] = float("inf")

    run = lab.start(each_step=spoil)

    with pytest.raises(
        TrainingError, match="the last step made 1 matrices of the adapter infinite"
    ):
        run.run()

    assert checkpoints.steps(run.folder / "checkpoints") == [2, 4]


def test_a_sample_that_a_kill_prevented_is_drawn_when_the_run_goes_on(lab: Lab) -> None:
    drawn: list[int] = []

    def die(step: int) -> None:
        raise Killed

    with pytest.raises(Killed):
        lab.start(sample=die, sample_steps=5).run()
    lab.start(sample=drawn.append, sample_steps=5).run()

    assert drawn == [5, 10, 15]


def test_a_run_that_moves_to_other_arithmetic_says_so(lab: Lab) -> None:
    with pytest.raises(InterruptedTrainingError):
        lab.start(stop=lambda step: step == 3).run()

    elsewhere = lab.start()
    elsewhere.setup = replace(
        elsewhere.setup, runtime=replace(elsewhere.setup.runtime, kernels="packed")
    )
    elsewhere.run()
    before = lab.start()
    before.run()

    assert told(elsewhere).notes[1] == (
        "it ran on cpu, float32, plain kernels and goes on on cpu, float32, packed kernels: the "
        "weights will be those of an unbroken run up to rounding, not to the bit"
    )
    assert "goes on" in told(before).notes[1]  # and back again


def test_validation_and_the_kept_weights_are_those_of_the_average(lab: Lab) -> None:
    plain, averaged = lab.with_training(ema=None).start("plain"), lab.start("averaged")

    plain.run()
    averaged.run()

    assert [r["loss"] for r in rows(plain)] == [r["loss"] for r in rows(averaged)]  # same path
    assert validations(plain)[1:] != validations(averaged)[1:]
    raw = saved(averaged)
    assert not any(
        torch.equal(p, raw[f"adapter/{n}"]) for n, p in averaged.state.parameters.items()
    )


def rows(loop: Loop) -> list[dict[str, Any]]:
    return [row for row in metrics.read(loop.folder / "metrics.jsonl") if "loss" in row]


def validations(loop: Loop) -> list[float]:
    every = metrics.read(loop.folder / "metrics.jsonl")
    return [row["validation_loss"] for row in every if "validation_loss" in row]
