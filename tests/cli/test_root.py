"""What every command owes its callers: a document where JSON is asked for, and no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image


def lorareg(folder: Path, *arguments: str | bytes, **environment: str) -> tuple[int, bytes, str]:
    """Run the command as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "lorareg", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr.decode("utf-8", "replace")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "红"
    folder.mkdir()
    Image.new("RGB", (8, 8), "red").save(folder / "图🎉.png")
    return folder


def test_an_error_is_a_document_where_json_is_asked_for(tmp_path: Path) -> None:
    code, out, err = lorareg(tmp_path, "data", "check", "nothing", "--json")

    assert code == 2
    assert json.loads(out)["error"]["what"] == "there is no dataset 'nothing'"
    assert "there is no dataset" in err


def test_an_error_leaves_stdout_empty_where_no_json_is_asked_for(tmp_path: Path) -> None:
    code, out, _ = lorareg(tmp_path, "data", "check", "nothing")

    assert (code, out) == (2, b"")


@pytest.mark.parametrize("encoding", ["gbk", "cp1252", "ascii"])
def test_a_console_that_cannot_show_a_name_is_no_reason_to_stop(
    pictures: Path, encoding: str
) -> None:
    code, out, err = lorareg(pictures.parent, "data", "check", "红", PYTHONIOENCODING=encoding)

    assert code == 1
    assert b"8x8" in out
    assert "Traceback" not in err


def test_json_is_json_on_any_console(pictures: Path) -> None:
    code, out, _ = lorareg(pictures.parent, "data", "check", "红", "--json", PYTHONIOENCODING="gbk")

    named = {name for finding in json.loads(out)["findings"] for name in finding["files"]}
    assert code == 1
    assert named == {"图🎉.png"}


def test_an_argument_that_is_not_utf8_is_refused_in_words(pictures: Path) -> None:
    code, _, err = lorareg(pictures, "data", "check", ".", "--trigger", "张".encode("gbk"))

    assert code == 2
    assert "not UTF-8" in err
    assert "Traceback" not in err
