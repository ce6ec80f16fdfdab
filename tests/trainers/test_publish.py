"""Weights take their place whole, wherever the run made them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lorareg.trainers.publish import replace_folder

MEMORY = Path("/dev/shm")  # a disk of its own


def made(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_text(text)
    return folder


def test_new_weights_take_the_place_of_the_old_ones(tmp_path: Path) -> None:
    target = made(tmp_path / "manifests" / "weights", "old")

    replace_folder(made(tmp_path / "run" / "weights", "new"), target)

    assert (target / "weights.safetensors").read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["weights"]


def test_what_a_kill_left_is_removed(tmp_path: Path) -> None:
    target = tmp_path / "manifests" / "weights"
    made(target.with_name(".weights.old"), "old")
    made(target.with_name(".weights.new"), "half")

    replace_folder(made(tmp_path / "run" / "weights", "new"), target)

    assert (target / "weights.safetensors").read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["weights"]


def test_runs_may_be_on_another_disk(tmp_path: Path) -> None:
    run = MEMORY / f"lorareg-test-{os.getpid()}"
    if not MEMORY.is_dir() or MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one disk here")
    target = made(tmp_path / "manifests" / "weights", "old")
    try:
        replace_folder(made(run / "weights", "new"), target)
        left = list(run.iterdir())
    finally:
        run.rmdir()

    assert (target / "weights.safetensors").read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["weights"]
    assert left == []
