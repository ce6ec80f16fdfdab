"""Fixtures for all tests: a scratch registry, and files whose bytes may never change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).parent

# no deadline: the machines that run this are shared; fixed draws: a red build can be repeated
settings.register_profile("lorareg", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("lorareg")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-goldens",
        action="store_true",
        help="Write the golden files anew; read the diff before committing it.",
    )


@pytest.fixture
def same_as_file(request: pytest.FixtureRequest) -> Callable[[Path, bytes], None]:
    """Compare bytes with a committed file, or write it with --update-goldens."""

    def check(file: Path, found: bytes) -> None:
        if request.config.getoption("--update-goldens"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(found)
        assert file.is_file(), f"there is no {file}: run pytest with --update-goldens"
        assert found == file.read_bytes(), (
            f"{file} would change; if that is meant: pytest --update-goldens"
        )

    return check


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """The top of an empty registry, without git or DVC."""
    top = tmp_path / "registry"
    top.mkdir()
    (top / "lorareg.yaml").write_text("schema: lorareg/1\nname: scratch\n", encoding="utf-8")
    return top
