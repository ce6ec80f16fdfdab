"""Runs that stop, go back, or are shared by several processes, in a registry as people have it."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lorareg.errors import InterruptedTrainingError, LoraregError, TrainingError
from lorareg.registry.ids import AssetId
from lorareg.registry.workspace import Workspace
from lorareg.trainers.core.watching import StepFacts
from lorareg.trainers.execute import Options
from lorareg.trainers.machine.launch import launch
from lorareg.trainers.run import Outcome, train
from lorareg.weights.algebra import relative_difference
from lorareg.weights.formats import diffusers
from tests.flows.conftest import inside, make_registry, set_keys

DOT = AssetId("character", "dot")


@dataclass
class Told:
    """A watcher that remembers; Ctrl-C comes when it is told ``ctrl_c_at``."""

    ctrl_c_at: str = ""
    stages: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def stage(self, what: str, done: int, total: int) -> None:
        self.stages.append(f"{what} {done}/{total}")
        if self.stages[-1] == self.ctrl_c_at:
            os.kill(os.getpid(), signal.SIGINT)

    def step(self, facts: StepFacts) -> None:
        self.steps.append(facts.step)
        self.stage("step", facts.step, facts.total)

    def validated(self, step: int, loss: float, base: float) -> None:
        self.notes.append(f"validated {step}")

    def note(self, text: str) -> None:
        self.notes.append(text)


def run(root: Path, options: Options | None = None, watcher: Told | None = None) -> Outcome:
    return train(Workspace(root), DOT, options or Options(), watcher or Told())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """A registry with ``character/dot``, trained in twelve steps; each test leaves it trained."""
    root = make_registry(tmp_path_factory.mktemp("long"), tiny_base)
    set_keys(root, "character/dot", "train.keep_checkpoints=9", "sample.every_steps=4")
    run(root)
    return root


def test_a_trained_adapter_goes_back_to_a_checkpoint_and_comes_out_the_same(trained: Path) -> None:
    first = Workspace(trained).load_lock(DOT)
    told = Told()

    again = run(trained, Options(from_step=6), told)

    assert told.steps == [7, 8, 9, 10, 11, 12]
    assert first is not None
    assert again.lock.outputs == first.outputs
    assert again.run is not None
    lines = (again.run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines if '"loss"' in line] == list(range(1, 13))


def test_samples_of_steps_that_are_forgotten_go_with_them(trained: Path) -> None:
    with pytest.raises(InterruptedTrainingError, match="stopped after step 7 of 12"):
        run(trained, Options(from_step=6), Told(ctrl_c_at="step 7/12"))

    samples = Workspace(trained).runs(DOT).glob("*/samples/*")
    assert [path.stem for path in samples] == ["step-000004"]
    assert not run(trained).trained  # the lock is still that of the finished run
    assert run(trained, Options(from_step=7)).trained


def test_going_back_where_there_is_no_checkpoint_lists_those_there_are(trained: Path) -> None:
    with pytest.raises(TrainingError) as caught:
        run(trained, Options(from_step=3))

    assert caught.value.why.startswith("there are those of step 2, 4, 6, ")
    assert caught.value.why.endswith("10, 12")


def test_going_back_and_beginning_anew_exclude_each_other(trained: Path) -> None:
    with pytest.raises(LoraregError, match="--restart and --from-step contradict each other"):
        run(trained, Options(restart=True, from_step=2))


def test_ctrl_c_while_pictures_are_encoded_keeps_those_that_are(registry: Path) -> None:
    with pytest.raises(InterruptedTrainingError, match="stopped encoding pictures, 3 of 8 done"):
        run(registry, watcher=Told(ctrl_c_at="encoding pictures 3/8"))

    told = Told()
    run(registry, watcher=told)

    encoded = [stage for stage in told.stages if stage.startswith("encoding pictures")]
    assert encoded == [f"encoding pictures {number}/5" for number in range(1, 6)]


def test_a_run_that_begins_anew_says_what_changed_and_where_the_other_was_stopped(
    registry: Path,
) -> None:
    with pytest.raises(InterruptedTrainingError):
        run(registry, watcher=Told(ctrl_c_at="step 2/12"))
    set_keys(registry, "character/dot", "train.learning_rate=0.003")
    anew = Told()
    run(registry, watcher=anew)
    captions = registry / "data/dots/metadata.csv"
    captions.write_text(captions.read_text(encoding="utf-8").replace("a red", "the red"))
    again = Told()
    run(registry, watcher=again)

    (stopped,) = [note for note in anew.notes if "was stopped" in note]
    assert stopped.startswith("begins at step 0: a run with other inputs was stopped after step 2 ")
    assert "train.learning_rate: " in stopped
    assert " -> 0.003" in stopped
    (changed,) = [note for note in again.notes if note.startswith("changed since it was trained")]
    assert "caption of img00.png changed" in changed
    assert not [note for note in again.notes if "was stopped" in note], "that one is ended"


def test_two_processes_train_one_adapter(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    alone, folder = Workspace(trained).load_lock(DOT), Workspace(trained).folder(DOT)
    before = diffusers.read(folder.weights / diffusers.FILE)
    capfd.readouterr()

    with inside(trained):
        status = launch(["train", "character/dot", "--restart"], ["--cpu", "--num_processes", "2"])

    said = capfd.readouterr()
    assert status == 0, said.err
    assert said.out.count("character/dot: trained 12 steps") == 1
    assert said.err.count("2 processes") == 1
    both = Workspace(trained).load_lock(DOT)
    assert alone is not None
    assert both is not None
    assert (alone.environment.processes, both.environment.processes) == (1, 2)
    assert both.result.train_loss == pytest.approx(alone.result.train_loss, rel=1e-5)
    after = diffusers.read(folder.weights / diffusers.FILE)
    # Adam divides by the size of a gradient, so where that is next to nothing rounding shows whole
    assert relative_difference(after, before) < 1e-3


def test_an_error_of_a_launched_training_is_said_once(
    trained: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with inside(trained):
        status = launch(["train", "character/nobody"], ["--cpu", "--num_processes", "2"])

    said = capfd.readouterr()
    assert status == 2
    assert said.err.count("there is no asset 'character/nobody'") == 1
    assert "Traceback" not in said.err
