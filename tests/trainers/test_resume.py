"""A run that was stopped, killed or damaged ends as the run that never was."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lorareg.errors import InterruptedTrainingError
from lorareg.registry import digest
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.image_training import Buckets, Tags
from lorareg.registry.manifest import Lora
from lorareg.registry.text_training import TextTraining
from lorareg.registry.training import Validation
from lorareg.trainers.adapters import inject
from lorareg.trainers.core.checkpoints import Cursor
from lorareg.trainers.core.loop import Loop
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.data.dialogues import DialogueRecord
from lorareg.trainers.text.task import TextTask
from tests.trainers import killable
from tests.trainers.lines import Told, assert_like
from tests.trainers.pico_images import Case, Run, make_pictures

ROOT = Path(__file__).parents[2]


@pytest.fixture
def everything(case: Case) -> Case:
    """Every source of randomness at once: 8 steps, the last of each epoch smaller."""
    changes = {
        "gradient_accumulation_steps": 2,
        "epochs": 4,
        "warmup_steps": 2,
        "caption_dropout": 0.3,
        "min_snr_gamma": 5.0,
        "save_steps": 1000,
    }
    return replace(case, lora=Lora(rank=4, alpha=8, dropout=0.3)).with_training(**changes)


def state(run: Run) -> dict[str, torch.Tensor]:
    """All that a checkpoint would hold."""
    groups = run.loop.state.bundle()
    return {f"{group}/{name}": value for group in groups for name, value in groups[group].items()}


def same(run: Run, straight: Run) -> bool:
    found, expected = state(run), state(straight)
    return found.keys() == expected.keys() and all(
        torch.equal(value, expected[name]) for name, value in found.items()
    )


def timeless(cursor: Cursor) -> Cursor:
    return replace(cursor, seconds=0.0)


def log(case: Case, folder: str) -> str:
    return (case.folder / folder / "metrics.jsonl").read_text()


def stop_at(case: Case, folder: str, *steps: int) -> Run:
    """Run with a stop after each of these steps, then to the end."""
    for step in steps:
        with pytest.raises(InterruptedTrainingError, match=f"stopped after step {step} of"):
            case.start(folder, stop=lambda now, step=step: now == step).loop.run()  # type: ignore[misc]
    run = case.start(folder)
    run.loop.run()
    return run


def assert_like_the_straight_run(case: Case, run: Run, folder: str) -> None:
    straight = case.start("straight")
    straight.loop.run()
    assert same(run, straight)
    assert log(case, folder) == log(case, "straight")
    assert timeless(run.loop.cursor) == timeless(straight.loop.cursor)


@pytest.mark.parametrize("steps", [(1,), (2, 3), (5, 7)])
def test_a_stopped_run_ends_as_the_straight_one(everything: Case, steps: tuple[int, ...]) -> None:
    run = stop_at(everything, "stopped", *steps)

    assert_like_the_straight_run(everything, run, "stopped")


def test_patience_is_remembered_over_a_stop(everything: Case) -> None:
    rule = Validation(share=0.2, every_steps=1, patience=3, min_delta=100.0)
    impatient = everything.with_training(validation=rule)

    run = stop_at(impatient, "stopped", 2)

    assert run.loop.cursor.finished == "early"
    assert run.loop.cursor.step == 4
    assert_like_the_straight_run(impatient, run, "stopped")


def test_the_best_adapter_is_remembered_over_a_stop(everything: Case) -> None:
    rule = Validation(share=0.2, every_steps=1, min_delta=100.0)  # only the first is the best
    settled = everything.with_training(validation=rule)

    run = stop_at(settled, "stopped", 4)

    assert run.loop.cursor.best_step == 1
    assert_like_the_straight_run(settled, run, "stopped")


def test_bfloat16_resumes_bit_for_bit(everything: Case) -> None:
    half = replace(everything, runtime=replace(everything.runtime, dtype="bfloat16"))

    run = stop_at(half, "stopped", 3)

    assert_like_the_straight_run(half, run, "stopped")


def test_buckets_tags_and_the_average_resume_bit_for_bit(everything: Case) -> None:
    changes = {
        "buckets": Buckets(step=8, upscale=True),
        "tags": Tags(separator=" ", keep_first=1, variants=3),
        "flip": True,
        "noise_offset": 0.1,
        "ema": 0.8,
    }
    various = everything.with_training(**changes)

    run = stop_at(various, "stopped", 2, 5)

    assert len(set(run.loop.plan.shapes)) > 1
    assert_like_the_straight_run(various, run, "stopped")


def test_packed_dialogues_resume_bit_for_bit(
    pico_llama: ResolvedBase,
    dialogues: tuple[DialogueRecord, ...],
    runtime: Runtime,
    tmp_path: Path,
) -> None:
    records = [replace(one, id=f"{one.id}.{copy}") for one in dialogues for copy in range(3)]
    settings = TextTraining(
        max_length=128, packing=True, batch_size=3, gradient_accumulation_steps=2, epochs=4,
        ema=0.8, save_steps=1000, validation=Validation(share=0.2),
    )  # fmt: skip

    def start(folder: str, last: int = 0) -> Loop:
        task = TextTask(pico_llama, records, settings)
        models, lora = task.load(runtime), Lora(rank=4, alpha=8, dropout=0.3)
        sizes = dict.fromkeys(task.targets(lora), lora.rank)
        adapters = inject.inject(models, sizes, lora, Draws(settings.seed))
        loop = Loop(
            task, adapters, settings, runtime, tmp_path / folder, Told(),
            stop=lambda: loop.cursor.step == last, sample=lambda step: None, sample_steps=0,
        )  # fmt: skip
        return loop

    straight = start("straight")
    straight.run()
    with pytest.raises(InterruptedTrainingError, match="stopped after step 3 of 8"):
        start("stopped", last=3).run()
    stopped = start("stopped")
    stopped.run()

    assert_like(stopped, straight)


def test_what_was_done_after_the_last_checkpoint_is_done_again(everything: Case) -> None:
    """As after a kill: metrics go further than the checkpoint, and end in half a line."""
    saving = everything.with_training(save_steps=3)
    stopping = saving.start("killed", stop=lambda step: step == 5)
    with pytest.raises(InterruptedTrainingError):
        stopping.loop.run()
    newest = max((saving.folder / "killed" / "checkpoints").iterdir())
    newest.unlink()  # step 5, which a killed run would not have written
    with (saving.folder / "killed" / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 6, "lo')

    run = saving.start("killed")
    run.loop.run()

    assert run.watcher.steps[0] == 4
    assert_like_the_straight_run(saving, run, "killed")


@pytest.mark.parametrize("place", [70, -1], ids=["header", "values"])
def test_a_damaged_checkpoint_is_skipped_for_the_one_before(everything: Case, place: int) -> None:
    saving = everything.with_training(save_steps=3)
    with pytest.raises(InterruptedTrainingError):
        saving.start("damaged", stop=lambda step: step == 7).loop.run()
    newest = max((saving.folder / "damaged" / "checkpoints").iterdir())
    data = bytearray(newest.read_bytes())
    data[place] ^= 1
    newest.write_bytes(data)

    run = saving.start("damaged")
    run.loop.run()

    assert run.watcher.notes[0] == "resumed after step 6 of 8"
    assert_like_the_straight_run(saving, run, "damaged")


def test_no_more_checkpoints_are_kept_than_are_of_use(everything: Case) -> None:
    everything.with_training(save_steps=1).start().loop.run()

    kept = sorted(path.name for path in (everything.folder / "run" / "checkpoints").iterdir())

    assert kept == ["step-00000007.safetensors", "step-00000008.safetensors"]


def test_a_finished_run_is_not_trained_again(everything: Case) -> None:
    first = everything.start()
    first.loop.run()
    before = log(everything, "run")

    again = everything.start()
    cursor = again.loop.run()

    assert again.watcher.steps == []
    assert timeless(cursor) == timeless(first.loop.cursor)
    assert log(everything, "run") == before
    assert same(again, first)


def test_a_stop_at_the_last_step_is_no_interruption(everything: Case) -> None:
    run = everything.start(stop=lambda step: step == 8)

    assert run.loop.run().finished == "finished"


def test_time_is_counted_over_all_parts(everything: Case) -> None:
    with pytest.raises(InterruptedTrainingError):
        everything.start(stop=lambda step: step == 4).loop.run()
    run = everything.start()

    run.loop._resume()
    before = run.loop.cursor.seconds
    run.loop.run()

    assert 0 < before < run.loop.cursor.seconds


@pytest.fixture
def nursery(pico_sd1: ResolvedBase, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that forks a training child for every line it is sent."""
    (tmp_path / "pictures").mkdir()
    make_pictures(tmp_path / "pictures", 9)
    paths = [pico_sd1.path, tmp_path / "pictures", tmp_path / "run", tmp_path / "out.safetensors"]
    process = subprocess.Popen(
        [sys.executable, killable.__file__, *map(str, paths)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(tmp_path / "stderr").open("w"),
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    yield process
    try:
        process.communicate(timeout=60)
    finally:
        process.kill()


def test_a_run_killed_again_and_again_writes_the_straight_run_s_file(
    nursery: subprocess.Popen[str], pico_sd1: ResolvedBase, tmp_path: Path
) -> None:
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    metrics, moment = tmp_path / "run" / "metrics.jsonl", random.Random(1)
    statuses = []
    for lines in (0, 2, 4, 6, None):  # killed when so much is done; at last left alone
        nursery.stdin.write("go\n")
        nursery.stdin.flush()
        child = int(nursery.stdout.readline())
        if lines is not None:
            give_up = time.monotonic() + 120
            while not metrics.is_file() or metrics.read_text().count("\n") <= lines:
                assert time.monotonic() < give_up
                time.sleep(0.002)
            time.sleep(moment.random() * 0.04)
            os.kill(child, signal.SIGKILL)
        statuses.append(int(nursery.stdout.readline()))

    killable.train(
        pico_sd1.path, tmp_path / "pictures", tmp_path / "straight", tmp_path / "straight.out"
    )
    assert statuses == [-signal.SIGKILL] * 4 + [0], (tmp_path / "stderr").read_text()
    assert digest.of_file(tmp_path / "out.safetensors") == digest.of_file(tmp_path / "straight.out")
    assert metrics.read_text() == (tmp_path / "straight" / "metrics.jsonl").read_text()
