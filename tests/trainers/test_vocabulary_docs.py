"""docs/vocabulary.md shows what really happens."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from lorareg.cli.app import app
from lorareg.trainers.data.vocabulary.matching import Matcher, Phrase

DOCUMENT = Path(__file__).parents[2] / "docs" / "vocabulary.md"
CHECK, FIX = "lorareg data check laboratory", "lorareg data check laboratory --fix"


def blocks() -> tuple[dict[str, str], dict[str, str]]:
    """Files by path, and output by command."""
    text = DOCUMENT.read_text("utf-8")
    files = dict(re.findall(r"```\w+ (\S+)\n(.*?)```", text, re.DOTALL))
    return files, dict(re.findall(r"```console\n\$ (.*?)\n(.*?)```", text, re.DOTALL))


@pytest.fixture
def laboratory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The dataset of the document, with pictures that have nothing wrong."""
    for name, text in blocks()[0].items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    for number in range(1, 7):
        noise = np.random.default_rng(number).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        picture = Image.fromarray(noise).resize((512, 512), Image.Resampling.NEAREST)
        picture.save(tmp_path / "laboratory" / f"img{number:02}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LORAREG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "laboratory"


def run(command: str) -> tuple[int, str]:
    """Exit status, and what a terminal shows but for the progress."""
    done = CliRunner().invoke(app, command.split()[1:])
    lines = [line.rstrip() for line in (done.stdout + done.stderr).splitlines()]
    shown = [line for line in lines if not line.startswith("  checking pictures:")]
    return done.exit_code, "".join(f"{line}\n" for line in shown)


@pytest.mark.usefixtures("laboratory")
def test_the_check_says_what_the_document_shows() -> None:
    status, shown = run(CHECK)

    assert shown == blocks()[1][CHECK]
    assert status == 0


def test_the_fix_shows_the_diff_of_the_document_and_leaves_the_captions(laboratory: Path) -> None:
    before = (laboratory / "metadata.csv").read_bytes()

    status, shown = run(FIX)

    assert shown == blocks()[1][CHECK] + blocks()[1][FIX]
    assert status == 0
    assert (laboratory / "metadata.csv").read_bytes() == before


def test_after_the_fix_is_taken_over_no_alias_is_left(laboratory: Path) -> None:
    run(FIX)
    subprocess.run(blocks()[1][FIX].splitlines()[-1], shell=True, check=True)

    shown = run(FIX)[1]

    assert "vocabulary-alias" not in shown
    assert "there is nothing to fix" in shown
    assert not (laboratory / "metadata.fixed.csv").exists()


def test_phrases_are_found_as_the_document_says() -> None:
    def found(text: str, *phrases: str) -> list[str]:
        matcher = Matcher([Phrase("term", phrase, phrase) for phrase in phrases])
        return [match.phrase.written for match in matcher.find(text)]

    assert found("lightning", "light") == []
    assert found("一盏LED灯", "LED") == ["LED"]
    assert found("荧光灯", "灯", "荧光灯") == ["荧光灯"]
    assert found("sci fi, sci_fi", "sci-fi") == ["sci-fi", "sci-fi"]
    assert found("beakers, boxes", "beaker", "box") == ["beaker"]
