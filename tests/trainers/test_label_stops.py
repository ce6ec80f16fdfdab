"""A labelling run that is stopped at any moment loses nothing, and the next one goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.trainers import captioning
from tests.trainers.captioning import (
    BLUE,
    RED,
    captions_of,
    make_pictures,
    run_caption,
    write_captions,
)
from tests.trainers.tiny_tagger import make_tagger

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tagger(tmp_path_factory.mktemp("models") / "tagger")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return make_pictures(tmp_path / "pictures", [RED, BLUE, RED])


def test_marks_without_their_captions_count_for_nothing(pictures: Path, tagger: Path) -> None:
    """As after a kill between the two files."""
    run_caption(pictures, "--model", tagger)
    straight = (pictures / "metadata.csv").read_bytes()
    write_captions(pictures, {"00.png": captions_of(pictures)["00.png"]})

    answer = run_caption(pictures, "--model", tagger, "--json")

    assert answer.json["labelled"] == 2
    assert (pictures / "metadata.csv").read_bytes() == straight


@pytest.mark.parametrize("merge", ["keep", "append"])
def test_a_run_killed_again_and_again_ends_as_the_straight_one(
    tagger: Path, tmp_path: Path, merge: str
) -> None:
    colours = [(step * 4, 20, 250 - step * 4) for step in range(60)]
    killed = make_pictures(tmp_path / "killed", colours)
    straight = make_pictures(tmp_path / "straight", colours)
    for folder in (killed, straight):
        write_captions(folder, {f"{n:02}.png": "by hand" for n in range(0, 60, 7)})
    arguments = ["--model", str(tagger), "--batch-size", "1", "--merge", merge]
    moment = random.Random(5)
    statuses = []
    for marked in (3, 25):  # killed when so many marks are there, which come before the captions
        statuses.append(_killed(killed, arguments, marked, moment.random() * 0.01))
        left = len([text for text in captions_of(killed).values() if text])
        assert left < 60

    run_caption(killed, *arguments)
    run_caption(straight, *arguments)

    assert statuses == [-signal.SIGKILL] * 2
    for name in ("metadata.csv", "captions.json"):
        assert (killed / name).read_bytes() == (straight / name).read_bytes()
    assert list(killed.glob(".*")) == []


def _killed(folder: Path, arguments: list[str], marked: int, later: float) -> int:
    """Run the command and kill it a moment after so many captions are marked."""
    process = subprocess.Popen(
        [sys.executable, captioning.__file__, "caption", str(folder), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    marks, give_up = folder / "captions.json", time.monotonic() + 120
    while not marks.is_file() or len(json.loads(marks.read_bytes())["captions"]) < marked:
        assert process.poll() is None
        assert time.monotonic() < give_up
        time.sleep(0.002)
    time.sleep(later)
    process.kill()
    return process.wait(timeout=60)


def test_review_opens_the_page_when_all_is_labelled(pictures: Path, tagger: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, captioning.__file__, "caption", str(pictures), "--model", str(tagger),
         "--review"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "DISPLAY": ""},
    )  # fmt: skip
    assert process.stderr is not None
    said = iter(process.stderr)
    address = next(line.strip() for line in said if "http://" in line)
    with urllib.request.urlopen(address) as page:
        status = page.status
    next(line for line in said if "Ctrl-C" in line)
    process.send_signal(signal.SIGINT)
    try:
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()

    assert status == 200
    assert "3 labelled" in out
    assert process.returncode == 0
