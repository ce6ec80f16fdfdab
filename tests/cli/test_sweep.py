"""How a sweep is shown, and when there is a best variant to keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorareg.cli import show
from lorareg.cli.sweep import Compared
from lorareg.errors import LoraregError
from lorareg.registry.ids import AssetId
from lorareg.registry.workspace import Workspace
from lorareg.trainers.runs import sweep
from lorareg.trainers.runs.many import Row, State
from tests.trainers.test_sweep import result

TONE = """schema: lorareg/1
kind: tone
name: pirate
task: text-generation
base: {model: not-here}
dataset: {path: data/talk}
train: {dpo: {beta: 0.1}}
"""


def compared(*states: State) -> Compared:
    rows = [Row(f"lora.rank={number}", state) for number, state in enumerate(states)]
    return Compared({}, rows, [result(0.7), result(0.9)])


@pytest.mark.parametrize("states", [("done", "done"), ("up to date", "done", "failed")])
def test_the_best_of_all_that_could_be_trained_is_kept(states: tuple[State, ...]) -> None:
    assert compared(*states).winner == result(0.7)


def test_nothing_is_kept_of_a_sweep_that_was_stopped() -> None:
    assert compared("done", "done", "stopped").winner is None


def test_a_list_in_a_table_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    show.table(["targets", "held out"], [["[to_q]", "0.5"]])

    assert "[to_q]" in capsys.readouterr().out


def test_betas_of_preferences_are_not_compared_by_the_loss_that_they_scale(registry: Path) -> None:
    manifest = registry / "manifests/tone/pirate/manifest.yaml"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(TONE, encoding="utf-8")
    workspace, asset = Workspace(registry), AssetId("tone", "pirate")

    said: dict[str, Any] = {}
    for key, values in {"train.dpo.beta": [0.1, 0.5], "lora.rank": [4, 8]}.items():
        with pytest.raises(LoraregError) as caught:
            sweep.variants(workspace, asset, {key: values}, None)
        said[key] = caught.value.why

    assert "it scales the loss of a pair" in said["train.dpo.beta"]
    assert "it scales the loss of a pair" not in said["lora.rank"]
