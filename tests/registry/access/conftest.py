from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.registry.access.team import Team, build, copy, isolated


@pytest.fixture(scope="session")
def _settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return isolated(tmp_path_factory.mktemp("home"))


@pytest.fixture(autouse=True)
def _git_of_its_own(_settings: dict[str, str]) -> Iterator[None]:
    """The user's settings and agent stay out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _settings.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory, _settings: dict[str, str]) -> Team:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _settings.items():
            patch.setenv(name, value)
        return build(tmp_path_factory.mktemp("team"))


@pytest.fixture
def team(_made: Team, tmp_path: Path) -> Team:
    """A registry with a policy: carol maintains, alice and bob own, dora promotes."""
    return copy(_made, tmp_path)
