"""A step that does not fit into memory is begun again on a lower rung, and comes out the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lorareg.errors import InterruptedTrainingError, TrainingError
from lorareg.registry.manifest import Lora
from lorareg.registry.runfacts import Rung
from lorareg.trainers.core import checkpoints
from lorareg.trainers.core.ladder import OutOfMemory, noticing_memory
from lorareg.trainers.core.loop import Loop
from lorareg.trainers.core.randomness import Draws
from tests.trainers import cramped
from tests.trainers.lines import Lab, Lines, same, told

ROOT = Path(__file__).parents[2]


class Crowded(Lines):
    """Has room for ``room`` records a forward pass, from training step ``since`` (from 0) on."""

    room = 1
    since = 0
    error: Callable[[str], Exception] = torch.OutOfMemoryError

    def losses(
        self, records: Sequence[str], draws: Draws, fixed_round: int | None = None
    ) -> torch.Tensor:
        late = fixed_round is None and int(draws.scope[1]) >= self.since
        found = super().losses(records, draws, fixed_round)
        if late and len(records) > self.room:
            raise self.error("CUDA out of memory. Tried to allocate 2.00 GiB")
        return found


class CrowdedLater(Crowded):
    since = 7


class NoRoom(Crowded):
    room = 0


class CrowdedInValidation(Lines):
    """Has room for one record where nothing is learned."""

    def losses(
        self, records: Sequence[str], draws: Draws, fixed_round: int | None = None
    ) -> torch.Tensor:
        if fixed_round is not None and len(records) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return super().losses(records, draws, fixed_round)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path).with_training(batch_size=4)


def trained(lab: Lab, folder: str) -> Loop:
    loop = lab.start(folder)
    loop.run()
    return loop


def losses(loop: Loop) -> list[float]:
    lines = (loop.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row["loss"] for row in map(json.loads, lines) if "loss" in row]


def rung(step: int, records: int | None, recomputed: bool = False) -> Rung:
    return Rung(step=step, micro_batch=records, gradient_checkpointing=recomputed)


def test_halving_keeps_the_effective_batch_and_all_draws(lab: Lab) -> None:
    roomy, crowded = trained(lab, "roomy"), trained(replace(lab, task=Crowded), "crowded")

    assert losses(crowded) == pytest.approx(losses(roomy), rel=1e-5)
    for name, value in roomy.state.parameters.items():
        torch.testing.assert_close(crowded.state.parameters[name], value, rtol=1e-4, atol=1e-6)


def test_every_rung_is_told_and_kept(lab: Lab) -> None:
    loop = trained(replace(lab, task=Crowded), "run")

    # this model has no blocks to compute twice, so halving comes first: four, two, one
    assert loop.cursor.rungs == (rung(0, 1),)
    said = [note for note in told(loop).notes if note.startswith("out of memory in step 1: ")]
    assert [note.split(": ")[1].split(" from")[0] for note in said] == [
        "2 record(s) a forward pass",
        "1 record(s) a forward pass",
    ]


def test_steps_before_the_one_that_did_not_fit_stay_as_they_were(lab: Lab) -> None:
    roomy, crowded = trained(lab, "roomy"), trained(replace(lab, task=CrowdedLater), "crowded")

    assert crowded.cursor.rungs == (rung(7, 1),)
    assert losses(crowded)[:7] == losses(roomy)[:7]


def test_a_run_that_knows_the_rungs_of_another_repeats_it_to_the_bit(lab: Lab) -> None:
    """As ``reproduce`` does, on a machine that has more memory."""
    crowded = trained(replace(lab, task=CrowdedLater), "crowded")

    again = trained(replace(lab, rungs=crowded.cursor.rungs), "again")

    assert same(dict(again.state.parameters), dict(crowded.state.parameters))
    assert losses(again) == losses(crowded)


@pytest.mark.parametrize("step", [7, 8])
def test_a_run_that_is_killed_on_a_lower_rung_goes_on_there(lab: Lab, step: int) -> None:
    crowded = replace(lab, task=CrowdedLater)
    straight = trained(crowded, "straight")

    def die(at: int) -> None:
        if at == step + 1:
            raise KeyboardInterrupt  # nothing is saved after the rung was taken

    with pytest.raises(KeyboardInterrupt):
        crowded.start("killed", each_step=die).run()
    # more room now, but the run stays where it was
    killed = trained(lab, "killed")

    assert told(killed).notes[0] == "resumed after step 7 of 9"
    assert same(dict(killed.state.parameters), dict(straight.state.parameters))


def test_a_run_that_goes_back_before_the_rung_has_not_taken_it(lab: Lab) -> None:
    saving = replace(lab, task=CrowdedLater).with_training(save_steps=1, keep_checkpoints=100)
    trained(saving, "run")

    checkpoints.roll_back(lab.folder / "run" / "checkpoints", 5)
    again = saving.start()
    with pytest.raises(InterruptedTrainingError):
        replace(saving, task=Lines).start(stop=lambda step: step == 6).run()

    again._resume()
    assert (again.cursor.step, again.cursor.rungs) == (6, ())


def test_one_record_that_does_not_fit_is_an_error_that_leaves_the_checkpoint(lab: Lab) -> None:
    run = replace(lab, task=NoRoom).start()

    with pytest.raises(TrainingError, match="there is not enough memory for step 1") as caught:
        run.run()

    assert caught.value.why.startswith("a single record at a time does not fit: CUDA out of memory")
    assert checkpoints.steps(run.folder / "checkpoints") == [0]


def test_validation_makes_room_for_itself_alone(lab: Lab) -> None:
    roomy, crowded = trained(lab, "roomy"), trained(replace(lab, task=CrowdedInValidation), "small")

    assert crowded.cursor.rungs == ()
    assert same(dict(crowded.state.parameters), dict(roomy.state.parameters))
    assert crowded.cursor.best_loss == pytest.approx(roomy.cursor.best_loss, rel=1e-6)


def test_dropout_of_halves_is_the_same_every_time(lab: Lab) -> None:
    dropping = replace(lab, task=Crowded, lora=Lora(rank=2, alpha=4, dropout=0.5))

    first, second = trained(dropping, "first"), trained(dropping, "second")

    assert same(dict(first.state.parameters), dict(second.state.parameters))


def test_a_process_that_the_system_gives_little_memory_finds_out_what_fits(tmp_path: Path) -> None:
    """Ten records take some 350 MB, one takes 40."""
    done = subprocess.run(
        [sys.executable, cramped.__file__, str(tmp_path), "180"],
        capture_output=True,
        text=True,
        # one arena: how much else malloc sets aside depends on the threads that came before
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "MALLOC_ARENA_MAX": "1",
        },
        check=False,
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert 1 <= found["rungs"][-1]["micro_batch"] < 10
    assert found["cramped"] == pytest.approx(found["roomy"], rel=1e-6)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate "
            "memory: you tried to allocate 4000000000000 bytes."
        ),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.00 GB)"),
        RuntimeError("could not create a primitive"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "mps", "onednn", "python"],
)
def test_every_allocator_s_words_are_understood(error: Exception) -> None:
    with pytest.raises(OutOfMemory), noticing_memory():
        raise error


def test_the_processor_s_own_allocator_is_understood() -> None:
    with pytest.raises(OutOfMemory), noticing_memory():
        torch.empty(1 << 60, dtype=torch.uint8)


def test_other_errors_are_not_taken_for_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), noticing_memory():
        torch.ones(2, 3) @ torch.ones(2, 3)
