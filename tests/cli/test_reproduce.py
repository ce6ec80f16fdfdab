"""What ``lorareg reproduce`` says where there is nothing to check out."""

from __future__ import annotations

from pathlib import Path

from tests.flows.conftest import lorareg, make_pictures
from tests.started import start


def test_a_registry_without_a_commit_is_told_to_make_one(tmp_path: Path) -> None:
    start(tmp_path)
    make_pictures(tmp_path / "data" / "dots", count=2)
    assert lorareg(tmp_path, "new", "style/ink", "--data", "data/dots").code == 0

    answer = lorareg(tmp_path, "reproduce", "style/ink")

    assert answer.code == 2
    assert "style/ink is not in git yet" in answer.err
    assert "lorareg push style/ink" in answer.err
