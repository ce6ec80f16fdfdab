"""Fixtures of the faults' tests: one team is made and copied."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apart import dvc_apart, git_apart
from tests.faults import world
from tests.faults.world import World

DATE = "2026-01-02T03:04:05+00:00"


@pytest.fixture(scope="module", autouse=True)
def _fixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nobody's settings, and one date: the same commands make the same commits."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        dvc_apart(patch, home)
        git_apart(patch, home)
        patch.setenv("SSH_AUTH_SOCK", "")
        for name in ("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"):
            patch.setenv(name, DATE)
        yield


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everybody's keys."""
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> World:
    """alice's registry with one adapter, pushed; to be copied."""
    return world.found(tmp_path_factory.mktemp("founded") / "team", keys)
