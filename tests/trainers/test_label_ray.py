"""Workers of a Ray cluster label as one process does, to the byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from lorareg.trainers.data.label import executors
from lorareg.trainers.data.label.batches import Picture, in_batches
from tests.trainers.captioning import BLUE, GREEN, RED, Answer, make_pictures, run_caption
from tests.trainers.tiny_tagger import make_tagger

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tagger(tmp_path: Path) -> Path:
    return make_tagger(tmp_path / "tagger")


# One process for both commands, so that Ray starts once; not this one, for Ray leaves threads in
# it; with a home of its own, for Ray keeps a token there.
ON_RAY = """
import json, logging, sys, ray
from tests.trainers.captioning import run_caption
ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
answers = [run_caption(*line, "--executor", "ray") for line in json.loads(sys.argv[1])]
ray.shutdown()
print(json.dumps([[a.code, a.out, a.err] for a in answers]))
"""


def run_on_ray(home: Path, *commands: Sequence[str | Path]) -> list[Answer]:
    lines = json.dumps([[str(argument) for argument in command] for command in commands])
    done = subprocess.run(
        [sys.executable, "-c", ON_RAY, lines],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(home)},
    )
    assert done.returncode == 0, done.stderr
    return [Answer(*answer) for answer in json.loads(done.stdout.splitlines()[-1])]


@pytest.mark.slow
def test_ray_writes_what_one_process_writes(tagger: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray.data")
    colours = [RED, BLUE, GREEN, (200, 40, 90)] * 3
    on_ray = make_pictures(tmp_path / "on-ray" / "set", colours)
    local = make_pictures(tmp_path / "local" / "set", colours)
    for folder in (on_ray, local):
        (folder / "张三.png").write_bytes(b"no picture")
    arguments = ("--model", tagger, "--batch-size", "3", "--json")
    broken = make_tagger(tmp_path / "broken")
    (broken / "model.onnx").write_bytes(b"no model")
    untouched = make_pictures(tmp_path / "untouched", [RED])

    answer, refusal = run_on_ray(tmp_path, (on_ray, *arguments), (untouched, "--model", broken))

    expected = run_caption(local, *arguments)
    assert answer.code == expected.code == 1
    assert {**answer.json, "dataset": ""} == {**expected.json, "dataset": ""}
    assert answer.json["labelled"] == 12
    for name in ("metadata.csv", "captions.json"):
        assert (on_ray / name).read_bytes() == (local / name).read_bytes()
    assert refusal.code == 2
    assert "broken" in refusal.err
    assert "cannot be used as a tagger" in refusal.err
    assert not (untouched / "metadata.csv").exists()


def test_without_ray_the_extra_is_named(
    tagger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    folder = make_pictures(tmp_path / "set", [RED])

    answer = run_caption(folder, "--model", tagger, "--executor", "ray")

    assert answer.code == 2
    assert "lorareg[ray]" in answer.err


def test_without_onnxruntime_the_extra_is_named(
    tagger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    folder = make_pictures(tmp_path / "set", [RED])

    answer = run_caption(folder, "--model", tagger)

    assert answer.code == 2
    assert "lorareg[caption]" in answer.err


def test_no_more_bytes_are_handed_to_the_cluster_at_a_time_than_it_bears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = []
    for number, size in enumerate((40, 40, 10, 10, 10, 95, 200, 5)):
        files.append(Picture(str(number), tmp_path / str(number)))
        files[-1].path.write_bytes(bytes(size))
    monkeypatch.setattr(executors, "LOAD_BYTES", 100)

    loads = list(executors.loads(in_batches(files, 2)))

    assert [[[p.name for p in batch] for batch in load] for load in loads] == [
        [["0", "1"], ["2", "3"]],
        [["4", "5"]],
        [["6", "7"]],
    ]


def test_workers_need_a_cluster(tagger: Path, tmp_path: Path) -> None:
    answer = run_caption(
        make_pictures(tmp_path / "set", [RED]), "--model", tagger, "--workers", "2"
    )

    assert answer.code == 2
    assert "add --executor ray" in answer.err
