"""Several adapters with one command: a broken one, a killed command, a cluster."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lorareg.trainers.report import metrics
from tests.flows.conftest import lorareg, make_registry, set_keys

ROOT = Path(__file__).parents[2]
NAMES = ("character/dot", "style/ring", "style/sun")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the processes of a command, which are on this machine beside other tests."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """Three untrained adapters on one base; every test gets a copy."""
    root = make_registry(tmp_path_factory.mktemp("three"), tiny_base)
    for name in NAMES[1:]:
        data = f"data/{Path(name).name}"
        shutil.copytree(root / "data" / "dots", root / data)
        new = lorareg(root, "new", name, "--data", data, "--base", "base")
        assert new.code == 0, new.err
    small = ["lora.rank=2", "train.batch_size=2", "train.precision=fp32", "train.epochs=1"]
    for name in NAMES:
        set_keys(root, name, *small, "sample.prompts=[a red zdot]", "sample.steps=2")
    return root


@pytest.fixture
def three(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "registry", symlinks=True))


def lock_of(root: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((root / "manifests" / name / "lock.json").read_text(encoding="utf-8")))


@pytest.mark.slow
def test_a_broken_adapter_does_not_stop_the_others_and_the_next_call_trains_only_it(
    three: Path,
) -> None:
    picture = three / "data" / "sun" / "img03.png"
    picture.write_bytes(b"no picture")

    first = lorareg(three, "train", "--all", "--jobs", "2", "--json")

    assert first.code == 2
    documents = {document["asset"]: document for document in first.json}
    assert list(documents) == list(NAMES)
    assert [documents[name].get("trained") for name in NAMES] == [True, True, None]
    assert "img03.png" in documents["style/sun"]["error"]["why"]
    shown = first.err[first.err.rindex("error") :]
    assert "style/sun: dataset data/sun has 1 problem" in shown
    assert "img03.png" in shown
    assert "--skip-broken" in shown
    status = {row["asset"]: row["state"] for row in lorareg(three, "status", "--json").json}
    assert [status[name] for name in NAMES] == ["up-to-date", "up-to-date", "untrained"]

    before = lock_of(three, "style/ring")
    Image.new("RGB", (32, 32), "navy").save(picture)
    second = lorareg(three, "train", "--all", "--jobs", "2", "--json")

    assert second.code == 0, second.err
    assert [document["trained"] for document in second.json] == [False, False, True]
    assert lock_of(three, "style/ring") == before

    alone = lorareg(three, "train", "style/ring", "--force", "--json")
    assert alone.json["outputs"] == before["outputs"]


@pytest.fixture
def command(three: Path) -> Iterator[subprocess.Popen[str]]:
    """Two trainings that would take long; the first is past its first steps and has saved none."""
    for name in NAMES[:2]:
        set_keys(three, name, "train.epochs=5000", "train.save_steps=20000")
    process = subprocess.Popen(
        [sys.executable, "-m", "lorareg", "train", *NAMES[:2]],
        cwd=three,
        stderr=subprocess.PIPE,
        text=True,
    )
    give_up = time.monotonic() + 180
    while not any(len(metrics.read(path)) > 4 for path in runs(three).rglob("metrics.jsonl")):
        assert time.monotonic() < give_up
        assert process.poll() is None, process.communicate(timeout=60)[1]
        time.sleep(0.2)
    yield process
    process.kill()
    process.communicate(timeout=60)


def runs(root: Path) -> Path:
    return root / ".lorareg" / "runs"


def saved(root: Path) -> list[str]:
    return [path.parents[2].name for path in runs(root).rglob("step-*.safetensors")]


def is_running(root: Path, name: str) -> bool:
    """Whether somebody holds the lock of an adapter's training."""
    with (runs(root) / name / "running").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


@pytest.mark.slow
def test_ctrl_c_stops_all_trainings_and_what_they_reached_is_saved(
    three: Path, command: subprocess.Popen[str]
) -> None:
    assert saved(three) == []

    command.send_signal(signal.SIGINT)
    _, said = command.communicate(timeout=120)

    assert command.returncode == 130, said
    assert saved(three) == ["dot"]
    assert not is_running(three, NAMES[0])
    assert "character/dot: stopped" in said
    assert "style/ring: stopped" in said
    assert "stopped: 2 of 2; the same command goes on from here" in said


@pytest.mark.slow
def test_a_killed_command_leaves_no_training_behind(
    three: Path, command: subprocess.Popen[str]
) -> None:
    """Nobody can tell its processes to stop any more: they notice, save and end."""
    command.send_signal(signal.SIGKILL)
    command.wait(timeout=60)

    give_up = time.monotonic() + 120
    while is_running(three, NAMES[0]):
        assert time.monotonic() < give_up
        time.sleep(0.2)
    assert saved(three) == ["dot"]


@pytest.mark.slow
def test_ray_trains_what_this_machine_trains(three: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    on_ray = (
        "import logging, os, ray, sys; from lorareg.cli.app import main; "
        "ray.init(num_cpus=2, log_to_driver=False, logging_level=logging.ERROR, "
        "include_dashboard=False); sys.argv = ['lorareg', *sys.argv[1:]]; main()"
    )
    picture = three / "data" / "sun" / "img03.png"
    picture.write_bytes(b"no picture")
    arguments = ("train", "--kind", "style", "--executor", "ray", "--jobs", "2", "--json")

    done = subprocess.run(
        [sys.executable, "-c", on_ray, *arguments],
        cwd=three,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "HOME": str(tmp_path)},  # Ray keeps a token there
        check=False,
    )

    assert done.returncode == 2, done.stderr
    documents = json.loads(done.stdout)
    assert [document.get("trained") for document in documents] == [True, None]
    assert "img03.png" in documents[1]["error"]["why"]
    alone = lorareg(three, "train", "style/ring", "--force", "--json")
    assert alone.json["outputs"] == documents[0]["outputs"]


def test_without_ray_the_extra_is_named(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)

    answer = lorareg(three, "train", "--all", "--executor", "ray")

    assert answer.code == 2
    assert "lorareg[ray]" in answer.err
