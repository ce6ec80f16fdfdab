"""Fixtures for all tests: a scratch registry, and files whose bytes may never change."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).parent
LONGEST = 0 if "LORAREG_FAULTS" in os.environ else 900
"""Seconds for a test with its fixtures, since what it waits for may never come; 0: no limit."""

# no deadline: the machines that run this are shared; fixed draws: a red build can be repeated
settings.register_profile("lorareg", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("lorareg")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-goldens",
        action="store_true",
        help="Write the golden files anew; read the diff before committing it.",
    )


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_reaches_children() -> None:
    """A job in a script's background ignores Ctrl-C, and so would all that its tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A test that hangs fails, and the others go on."""

    def give_up(number: int, frame: object) -> None:
        raise TimeoutError(f"{item.nodeid} did not end in {LONGEST} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(LONGEST)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


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
