"""Two processes that train as one, through gloo on a CPU: same batch, same draws, one that writes.

Their sums are of other numbers in another order, so weights agree with those of one process up to
rounding, and with those of two processes to the bit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lorareg.trainers.machine.ranks import Ranks
from tests.trainers import pair
from tests.trainers.lines import Lab, same
from tests.trainers.pair import Job

ROOT = Path(__file__).parents[2]
TOLERANCE = 2e-6
"""Relative difference of losses that the order of float32 sums may make over a run of ten steps."""


@dataclass(frozen=True)
class Outcome:
    """What the two processes left."""

    statuses: list[int]
    facts: list[dict[str, Any]]
    weights: list[dict[str, torch.Tensor]]
    metrics: str
    written: list[list[str]]


@dataclass(frozen=True)
class Twins:
    """The process that forks pairs."""

    process: subprocess.Popen[str]
    folder: Path

    def run(self, job: Job) -> Outcome:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(pair.line(job))
        self.process.stdin.flush()
        statuses = json.loads(self.process.stdout.readline())
        outcomes = [self.folder / f"{job.name}-{rank}" for rank in (0, 1)]
        metrics = self.folder / "0" / job.run / "metrics.jsonl"
        written = [[p.name for p in (self.folder / str(rank)).glob("*/*")] for rank in (0, 1)]
        files = [path.with_suffix(".json") for path in outcomes]
        return Outcome(
            statuses,
            [json.loads(path.read_text(encoding="utf-8")) for path in files if path.is_file()],
            [
                load_file(f"{path}.safetensors")
                for path in outcomes
                if Path(f"{path}.json").is_file()
            ],
            metrics.read_text(encoding="utf-8"),
            written,
        )


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    folder = tmp_path_factory.mktemp("twins")
    process = subprocess.Popen(
        [sys.executable, pair.__file__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(folder / "stderr").open("w"),
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    yield Twins(process, folder)
    try:
        process.communicate(timeout=60)
    finally:
        process.kill()


def alone(folder: Path, job: Job) -> tuple[str, dict[str, torch.Tensor]]:
    """Metrics and weights of one process."""
    loop = Lab(folder).with_training(**job.training).start()
    loop.run()
    weights = {name: p.detach().clone() for name, p in loop.state.parameters.items()}
    return (loop.folder / "metrics.jsonl").read_text(encoding="utf-8"), weights


def assert_close(found: str, expected: str) -> None:
    for row, other in zip(found.splitlines(), expected.splitlines(), strict=True):
        assert json.loads(row) == pytest.approx(json.loads(other), rel=TOLERANCE)


@pytest.mark.parametrize(("batch", "accumulation"), [(4, 1), (1, 4), (3, 3)])
def test_two_processes_learn_what_one_learns(
    twins: Twins, tmp_path: Path, batch: int, accumulation: int
) -> None:
    name = f"{batch}x{accumulation}"
    sizes = {"batch_size": batch, "gradient_accumulation_steps": accumulation}
    job = Job(name, name, sizes)

    both = twins.run(job)
    metrics, weights = alone(tmp_path, job)

    assert both.statuses == [0, 0]
    assert same(both.weights[0], both.weights[1])
    assert_close(both.metrics, metrics)
    for parameter, value in weights.items():
        torch.testing.assert_close(both.weights[0][parameter], value, rtol=1e-4, atol=1e-6)


def test_only_the_first_process_writes(twins: Twins) -> None:
    both = twins.run(Job("writes", "writes", {"save_steps": 2}))

    assert {"metrics.jsonl", "checkpoints"} <= set(both.written[0])
    assert both.written[1] == []
    assert both.facts[1]["notes"] == both.facts[0]["notes"]  # both know all; who is told is above


@pytest.mark.parametrize("asked", [0, 1])
def test_a_stop_that_one_process_hears_stops_both_and_both_go_on(twins: Twins, asked: int) -> None:
    straight = twins.run(Job(f"straight{asked}", f"straight{asked}"))

    stopped = twins.run(Job(f"stopped{asked}", f"stop{asked}", stop=(asked, 4)))
    resumed = twins.run(Job(f"resumed{asked}", f"stop{asked}"))

    assert [facts["step"] for facts in stopped.facts] == [4, 4]
    assert stopped.facts[0]["error"].startswith("stopped after step 4 of 15")
    assert stopped.facts[1]["exit"] == 0
    assert resumed.facts[1]["notes"][0] == "resumed after step 4 of 15"
    assert resumed.metrics == straight.metrics
    assert same(resumed.weights[0], straight.weights[0])
    assert same(resumed.weights[1], straight.weights[0])


def test_what_the_second_process_refuses_the_first_one_says(twins: Twins) -> None:
    both = twins.run(Job("nan", "nan", trouble="nan"))

    assert both.facts[0]["error"].startswith("the loss of step 4 is nan\nwhy: records: record-")
    assert (both.facts[1]["error"], both.facts[1]["exit"]) == ("", 0)


def test_too_little_memory_in_one_process_lowers_both(twins: Twins, tmp_path: Path) -> None:
    job = Job("memory", "memory", {"batch_size": 4}, trouble="memory")

    both = twins.run(job)
    metrics, _ = alone(tmp_path, job)

    lowest = [{"step": 3, "micro_batch": 1, "gradient_checkpointing": False}]
    assert [facts["rungs"] for facts in both.facts] == [lowest, lowest]
    assert_close(both.metrics, metrics)


def test_a_process_that_dies_takes_the_other_with_it(twins: Twins) -> None:
    both = twins.run(Job("crash", "crash", trouble="crash"))

    assert sorted(both.statuses) == [-9, 1]
    assert "ArithmeticError: the second process dies" in (twins.folder / "stderr").read_text()


def test_a_process_without_a_launcher_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")  # some clusters set it for every job
    monkeypatch.delenv("LOCAL_RANK", raising=False)

    assert Ranks.current() == Ranks(0, 1)


def test_alone_everything_is_a_plain_call() -> None:
    one = Ranks()
    calls: list[Callable[[], int]] = [
        lambda: one.together(lambda: 3),
        lambda: one.leader_first(lambda: 3),
        lambda: one.decided(3),
        lambda: int(one.summed([3.0])[0]),
        lambda: one.gathered(3)[0],
    ]

    assert [call() for call in calls] == [3] * 5
    assert (one.leads, one.any(True), one.any(False)) == (True, True, False)
