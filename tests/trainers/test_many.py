"""Many trainings: who begins when, what one failure does to the others, and what a row shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from lorareg.errors import LoraregError, NotFoundError
from lorareg.registry.ids import AssetId
from lorareg.registry.workspace import Workspace
from lorareg.trainers.core.watching import StepFacts
from lorareg.trainers.runs import many
from lorareg.trainers.runs.executors import STOPPED, Local
from lorareg.trainers.runs.many import Job, Row
from lorareg.trainers.runs.orders import Order
from lorareg.trainers.runs.processes import Event, Process
from lorareg.trainers.runs.ray_cluster import shares

ORDER = Order("/nowhere", "style/ink")
DONE: Event = {"event": "done", "document": {"asset": "style/ink", "trained": True}}
FAILED: Event = {"event": "error", "what": "no", "why": "it is so", "fix": "", "stopped": False}
FACTS = StepFacts(step=3, total=9, loss=0.5, rate=1e-4, norm=1.0, units=4, seconds=0.5)


@dataclass
class Script:
    """An executor whose orders take one poll each and end as it is written."""

    slots: int = 1
    ends: Mapping[str, Event] = field(default_factory=dict)
    running: list[tuple[int, Order]] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    most: int = 0
    stopped: bool = False
    closed: bool = False

    def start(self, number: int, order: Order) -> None:
        self.running.append((number, order))
        self.begun.append(order.asset)
        self.most = max(self.most, len(self.running))

    def poll(self, seconds: float) -> Sequence[tuple[int, Event]]:
        number, order = self.running.pop(0)
        event = STOPPED if self.stopped else self.ends.get(order.asset, DONE)
        return [(number, {"event": "note", "text": "on my way"}), (number, event)]

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        self.closed = True


def jobs(*names: str, **after: str) -> list[Job]:
    """Jobs of kind x; ``b="x/a"`` lets x/b wait for x/a."""
    return [Job(f"x/{name}", replace(ORDER, asset=f"x/{name}"), after.get(name)) for name in names]


def run(
    wanted: Sequence[Job],
    script: Script,
    known: Callable[[Order], Mapping[str, Any] | None] = lambda order: None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Row]:
    rows = many.run(wanted, script, known, lambda rows: None, stop)
    assert script.closed
    return {row.name: row for row in rows}


def test_one_that_fails_does_not_stop_the_rest() -> None:
    script = Script(ends={"x/b": FAILED})

    rows = run(jobs("a", "b", "c"), script)

    assert [row.state for row in rows.values()] == ["done", "failed", "done"]
    assert rows["x/b"].error == {"what": "no", "why": "it is so", "fix": ""}


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_no_more_run_at_a_time_than_there_are_slots(slots: int) -> None:
    script = Script(slots=slots)

    run(jobs("a", "b", "c", "d"), script)

    assert script.begun == ["x/a", "x/b", "x/c", "x/d"]
    assert script.most == min(slots, 4)


def test_what_is_up_to_date_needs_no_process() -> None:
    script = Script()

    rows = run(
        jobs("a", "b"),
        script,
        known=lambda order: {"trained": False} if order.asset == "x/a" else None,
    )

    assert script.begun == ["x/b"]
    assert [row.state for row in rows.values()] == ["up to date", "done"]


def test_an_adapter_whose_files_are_wrong_needs_no_process_to_fail() -> None:
    def known(order: Order) -> None:
        if order.asset == "x/a":
            raise LoraregError("manifests/x/a/manifest.yaml has 1 problem", fix="edit it")

    script = Script()

    rows = run(jobs("a", "b"), script, known)

    assert script.begun == ["x/b"]
    assert rows["x/a"].error is not None
    assert rows["x/a"].error["fix"] == "edit it"


def test_a_child_waits_for_its_parent_and_others_go_before_it() -> None:
    script = Script(slots=2)

    run(jobs("child", "parent", "other", child="x/parent"), script)

    assert script.begun == ["x/parent", "x/other", "x/child"]


def test_a_child_whose_parent_failed_is_not_begun() -> None:
    script = Script(ends={"x/parent": FAILED})

    rows = run(jobs("child", "parent", child="x/parent"), script)

    assert script.begun == ["x/parent"]
    assert rows["x/child"].error is not None
    assert "its parent x/parent could not be trained" in rows["x/child"].error["what"]


def test_two_that_wait_for_each_other_are_begun_all_the_same() -> None:
    """Training them says what is wrong; waiting for ever would not."""
    script = Script()

    run(jobs("a", "b", a="x/b", b="x/a"), script)

    assert sorted(script.begun) == ["x/a", "x/b"]


def test_stopping_stops_what_runs_and_begins_no_more() -> None:
    script = Script(slots=2)
    asked = iter([False, True])

    rows = run(jobs("a", "b", "c"), script, stop=lambda: next(asked, True))

    assert script.begun == ["x/a", "x/b"]
    assert [row.state for row in rows.values()] == ["done", "stopped", "stopped"]


def test_every_event_leaves_its_mark_in_the_row() -> None:
    row = Row("x/a").started(10.0)
    events: list[Event] = [
        {"event": "note", "text": "cpu, float32"},
        {"event": "stage", "what": "encoding pictures", "done": 3, "total": 8},
        {"event": "validated", "step": 0, "loss": 1.0, "base": 1.0},
    ]
    for event in events:
        row = row.after(event, 11.0)
    assert (row.state, row.doing) == ("starting", "encoding pictures 3/8")

    row = row.after({"event": "step", **asdict(FACTS)}, 12.0)
    assert (row.state, row.doing, row.standing.facts) == ("training", "", FACTS)

    row = row.after({"event": "validated", "step": 3, "loss": 0.8, "base": 1.0}, 12.0)
    row = row.after(DONE, 15.0)
    assert (row.state, row.notes, row.standing.best) == ("done", ("cpu, float32",), (3, 0.8))
    assert row.seconds(99.0) == 5.0


def test_an_order_travels_as_text() -> None:
    order = replace(
        ORDER, options={"restart": True}, changes={"lora.rank": 4, "lora.targets": ["to_q"]}
    )

    assert Order.parse(str(order)) == order


def test_cores_are_shared_by_those_that_run_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")

    assert [Local(jobs)._threads for jobs in (None, 1, 2, 3, 16)] == [None, None, 4, 2, 1]


def test_a_cluster_gives_each_training_a_gpu_or_a_share_of_the_cores() -> None:
    two = [{"CPU": 8.0}, {"CPU": 16.0}]

    assert shares(two, None) == (2, {"num_cpus": 8})
    assert shares(two, 4) == (4, {"num_cpus": 4})
    assert shares([{"CPU": 8.0, "GPU": 1.0}], 2) == (2, {"num_gpus": 0.5, "num_cpus": 1})


def test_an_error_of_a_process_comes_with_its_words(tmp_path: Path) -> None:
    process = Process(Order(str(tmp_path / "missing"), "no-asset-at-all"))

    *_, last = process.events()

    assert last["event"] == "error"
    assert last["what"] == "'no-asset-at-all' is not kind/name"
    assert last["fix"]


def test_a_killed_process_is_an_error_too() -> None:
    process = Process(ORDER)
    process.kill()

    *_, last = process.events()

    assert last["what"] == "its process ended with signal 9"
    assert "memory" in last["why"]
    assert not last["stopped"]


def test_a_process_that_is_let_go_before_its_first_step_is_stopped() -> None:
    process = Process(ORDER)
    process.release()

    *_, last = process.events()

    assert last["stopped"]


def test_adapters_are_checked_and_ordered_without_torch(registry: Path) -> None:
    """The command that hands trainings out stays light: its children load what they need."""
    probe = (
        "import sys; from pathlib import Path; from lorareg.cli import train_many, sweep; "
        "print(sorted({'torch', 'diffusers', 'transformers', 'peft', 'ray'} & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", probe],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )

    assert json.loads(done.stdout.replace("'", '"')) == []


@pytest.mark.parametrize("option", [{"restart": True}, {"force": True}, {"from_step": 0}])
def test_what_is_to_be_trained_anew_is_never_up_to_date(
    registry: Path, option: dict[str, Any]
) -> None:
    order = Order(str(registry), "x/a", option)

    assert many.up_to_date(order) is None
    with pytest.raises(NotFoundError):  # else its manifest is asked
        many.up_to_date(Order(str(registry), "x/a"))


def test_a_parent_of_the_same_call_is_waited_for(registry: Path) -> None:
    text = (
        "schema: lorareg/1\nkind: x\nname: {name}\ntask: text-generation\n"
        "base: {{model: builtin:smollm2}}\ndataset: {{path: data}}\n"
    )
    for name, more in (("parent", ""), ("child", "parent: x/parent\n"), ("late", "lora: 3\n")):
        folder = registry / "manifests" / "x" / name
        folder.mkdir(parents=True)
        (folder / "manifest.yaml").write_text(text.format(name=name) + more)
    assets = [AssetId("x", name) for name in ("child", "parent", "late")]

    found = many.jobs_of(Workspace(registry), assets, ORDER)

    assert [(job.order.asset, job.after) for job in found] == [
        ("x/child", "x/parent"),
        ("x/parent", None),
        ("x/late", None),
    ]
