"""The guided tour, on the built-in base, with a fraction of its steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lorareg.trainers import demo
from tests.flows.conftest import lorareg


@pytest.mark.slow
def test_the_tour_ends_with_an_identical_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "LESSONS", [replace(each, epochs=1) for each in demo.LESSONS])
    monkeypatch.setattr(demo, "PROMPTS", demo.PROMPTS[:1])

    answer = lorareg(tmp_path, "demo", "tour", "--json")

    assert answer.code == 0, answer.err
    verdicts = [row[2] for row in answer.json["rows"]]
    assert verdicts[-1] == "identical"
    assert verdicts.count("better") == 2
    assert {path.name for path in (tmp_path / "tour").iterdir()} == {
        "registry", "storage", "origin.git", "teammate", "demo.png",
    }  # fmt: skip


def test_the_tour_does_not_write_into_a_folder_with_something_in_it(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep")

    answer = lorareg(tmp_path, "demo", ".")

    assert answer.code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
