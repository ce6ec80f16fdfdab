"""Trackers beside the metrics: a resumed run goes on in the same place, nothing twice, no gap."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from lorareg.errors import InvalidFileError, LoraregError
from lorareg.registry import settings
from lorareg.trainers.execute import Options
from lorareg.trainers.report import metrics, trackers
from lorareg.trainers.report.metrics import MetricsLog
from lorareg.trainers.report.trackers import Reporting
from lorareg.trainers.run import go_back

ROOT = Path(__file__).parents[2]
VARIABLES = ("WANDB_MODE", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")


def declared(folder: Path, *names: str) -> Path:
    """A run that reports to these trackers."""
    reporting = Reporting(
        trackers=names,
        project="scratch",
        title="character/zhangsan",
        shared=str(folder / "shared"),
        config={"lora.rank": 4, "lora.targets": "attention"},
    )
    trackers.declare(folder, reporting)
    return folder


def write(folder: Path, after: int, steps: range) -> None:
    """What the loop writes: a validation before the first step and after every fourth."""
    log = MetricsLog(folder, after)
    if after == 0:
        log.write(0, {"validation_loss": 1.0})
    for step in steps:
        log.write(step, {"loss": 1 / step, "learning_rate": 1e-4})
        if step % 4 == 0:
            log.write(step, {"validation_loss": 1 / step})
    log.close()


def kill_after_eight_steps(folder: Path) -> None:
    text = (
        "import os, signal, sys; from pathlib import Path; "
        "from lorareg.trainers.report.metrics import MetricsLog; "
        "log = MetricsLog(Path(sys.argv[1]), 0); "
        "[log.write(step, {'loss': 1 / step}) for step in range(1, 9)]; "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", text, str(folder)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL


def truth(folder: Path, name: str) -> list[tuple[int, float]]:
    rows = metrics.read(folder / "metrics.jsonl")
    return [(row["step"], row[name]) for row in rows if name in row]


def board(folder: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder / "tensorboard"), {"scalars": 0}).Reload().Scalars(name)
    return [(event.step, pytest.approx(event.value)) for event in events]


def test_a_registry_that_says_nothing_has_tensorboard(registry: Path) -> None:
    assert settings.load(registry).trackers == ("tensorboard",)


def test_an_unknown_tracker_is_an_error_of_lorareg_yaml(registry: Path) -> None:
    with (registry / "lorareg.yaml").open("a", encoding="utf-8") as stream:
        stream.write("trackers: [tensorboard, clipboard]\n")

    with pytest.raises(InvalidFileError, match="1 problem"):
        settings.load(registry)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_that_is_not_installed_is_refused_with_the_command_that_installs_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.delitem(sys.modules, name, raising=False)

    with pytest.raises(LoraregError) as caught:
        declared(tmp_path, name)

    assert f"pip install 'lorareg[{name}]'" in caught.value.fix
    assert not (tmp_path / trackers.FILE).exists()


def test_no_tracker_at_all_leaves_the_metrics(tmp_path: Path) -> None:
    write(declared(tmp_path), 0, range(1, 9))

    assert [step for step, _ in truth(tmp_path, "loss")] == list(range(1, 9))
    assert not (tmp_path / "tensorboard").exists()


def test_tensorboard_has_what_the_metrics_have_after_a_kill(tmp_path: Path) -> None:
    """Its events wait in memory: those of a killed process are lost, checkpointed or not."""
    kill_after_eight_steps(tmp_path)

    write(tmp_path, 5, range(6, 11))

    assert [step for step, _ in board(tmp_path, "loss")] == list(range(1, 11))
    assert board(tmp_path, "loss") == truth(tmp_path, "loss")


def test_a_run_that_begins_anew_is_a_new_one_for_every_tracker(tmp_path: Path) -> None:
    declared(tmp_path, "tensorboard")
    trackers.remember(tmp_path, "mlflow", "1ed40e73")
    trackers.declare(tmp_path, Reporting())
    assert trackers.known(tmp_path).ids == {"mlflow": "1ed40e73"}

    go_back(tmp_path, Options(restart=True), done=False)

    assert trackers.known(tmp_path).ids == {}


@pytest.fixture
def mlflow(tmp_path: Path) -> Iterator[Any]:
    library = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    yield library
    if library.active_run():
        library.end_run()


def in_mlflow(library: Any, folder: Path, name: str) -> list[tuple[int, float]]:
    run = trackers.known(folder).ids["mlflow"]
    history = library.MlflowClient().get_metric_history(run, name)
    return sorted((metric.step, metric.value) for metric in history)


@pytest.mark.slow
def test_mlflow_goes_on_in_the_same_run_after_every_kind_of_stop(
    mlflow: Any, tmp_path: Path
) -> None:
    """The steps after a checkpoint come twice, those of a tracker that failed come late."""
    folder = declared(tmp_path / "run", "mlflow")
    write(folder, 0, range(1, 11))
    first = trackers.known(folder).ids["mlflow"]

    write(declared(folder, "mlflow"), 6, range(7, 9))
    declared(folder)
    write(folder, 8, range(9, 13))  # as if the server had not answered
    write(declared(folder, "mlflow"), 12, range(13, 17))

    assert trackers.known(folder).ids["mlflow"] == first
    for name in ("loss", "validation_loss"):
        assert in_mlflow(mlflow, folder, name) == truth(folder, name)
    found = mlflow.MlflowClient().get_run(first)
    assert found.data.params == {"lora.rank": "4", "lora.targets": "attention"}
    assert (found.info.run_name, found.info.status) == ("character/zhangsan", "FINISHED")
    assert (folder / "shared" / "mlflow.db").is_file()

    trackers.forget(folder)
    write(declared(folder, "mlflow"), 0, range(1, 3))
    assert trackers.known(folder).ids["mlflow"] != first
    assert in_mlflow(mlflow, folder, "loss") == truth(folder, "loss")


@pytest.mark.slow
def test_a_tracker_that_does_not_start_says_why_before_the_first_step(
    mlflow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")

    with pytest.raises(LoraregError, match="the tracker mlflow does not start") as caught:
        MetricsLog(declared(tmp_path, "mlflow"), 0)

    assert "MLFLOW_TRACKING_URI" in caught.value.fix
    assert "nonsense" in caught.value.why


def wandb_rows(folder: Path) -> list[dict[str, float]]:
    """What every part of an offline run holds, oldest first.

    Source: W&B writes protobuf records in the log format of LevelDB, after a header of 7 bytes.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    rows = []
    for part in sorted((folder / "wandb").glob("offline-run-*/run-*.wandb")):
        data, whole = part.read_bytes(), b""
        place = 7
        while place + 7 <= len(data):
            if 32768 - place % 32768 < 7:
                place += 32768 - place % 32768
                continue
            size, kind = struct.unpack_from("<HB", data, place + 4)
            whole += data[place + 7 : place + 7 + size]
            place += 7 + size
            if kind in (1, 4):
                items = Record.FromString(whole).history.item
                named = {
                    item.key or item.nested_key[0]: json.loads(item.value_json) for item in items
                }
                rows += [named] if named else []
                whole = b""
    return rows


@pytest.mark.slow
def test_wandb_goes_on_in_the_same_run_and_is_told_no_step_twice(tmp_path: Path) -> None:
    """Of what a killed process told, its files hold nothing: they are made anew."""
    pytest.importorskip("wandb")
    folder = declared(tmp_path, "wandb")
    kill_after_eight_steps(folder)
    first = trackers.known(folder).ids["wandb"]

    write(declared(folder, "wandb"), 5, range(6, 11))

    assert trackers.known(folder).ids["wandb"] == first
    assert len(wandb_parts(folder)) == 1
    assert wandb_losses(folder) == truth(folder, "loss")
    everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert str(ROOT).encode() not in everything

    # as wandb sync marks it: from here on a server has these steps
    part = wandb_parts(folder)[0]
    (part / f"run-{first}.wandb.synced").touch()
    write(declared(folder, "wandb"), 8, range(9, 15))

    assert wandb_parts(folder)[0] == part
    assert len(wandb_parts(folder)) == 2
    assert wandb_losses(folder) == truth(folder, "loss")


def wandb_parts(folder: Path) -> list[Path]:
    return sorted((folder / "wandb").glob("offline-run-*"))


def wandb_losses(folder: Path) -> list[tuple[int, float]]:
    return [(int(row["_step"]), row["loss"]) for row in wandb_rows(folder) if "loss" in row]
