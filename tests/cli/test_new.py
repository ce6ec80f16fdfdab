"""What ``lorareg new`` refuses leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flows.conftest import lorareg, make_pictures
from tests.started import start


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A registry with pictures and no adapter."""
    start(tmp_path)
    make_pictures(tmp_path / "data" / "dots", count=2)
    return tmp_path


def test_a_value_out_of_bounds_in_a_foreign_config_names_the_config_and_writes_nothing(
    pictures: Path,
) -> None:
    (pictures / "old.toml").write_text("network_dim = 100000\nnetwork_dropout = 2\n")

    answer = lorareg(pictures, "new", "style/ink", "--data", "data/dots", "--from", "old.toml")

    assert answer.code == 2
    assert "lora.rank" in answer.err
    assert "lora.dropout" in answer.err
    assert "nothing was written" in answer.err
    assert "the config of --from" in answer.err
    assert not list((pictures / "manifests").rglob("*"))
    assert not (pictures / "data/dots.dvc").exists()


def test_a_kohya_config_without_buckets_says_nothing_of_them(pictures: Path) -> None:
    (pictures / "old.toml").write_text("network_dim = 8\nenable_bucket = false\n")

    answer = lorareg(pictures, "new", "style/ink", "--data", "data/dots", "--from", "old.toml")

    assert answer.code == 0, answer.err
    assert "buckets" not in (pictures / "manifests/style/ink/manifest.yaml").read_text()


@pytest.mark.parametrize("name", ["missing.toml", "missing.yaml"])
def test_a_config_that_is_not_here_is_named_with_its_folder(pictures: Path, name: str) -> None:
    answer = lorareg(pictures, "new", "style/ink", "--data", "data/dots", "--from", name)

    assert answer.code == 2
    assert f"there is no {name} in {pictures.name}/" in answer.err


def test_a_folder_is_no_config(pictures: Path) -> None:
    answer = lorareg(pictures, "new", "style/ink", "--data", "data/dots", "--from", "data")

    assert answer.code == 2
    assert "it is a folder" in answer.err
