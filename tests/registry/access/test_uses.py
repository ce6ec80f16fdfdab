from __future__ import annotations

import json
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorareg.errors import LoraregError
from lorareg.registry.access import uses
from lorareg.registry.workspace import Workspace
from tests.registry.access.team import ZHANGSAN, Team

COUNT = 5


@dataclass(frozen=True)
class Log:
    """A log as it is on disk, and the note of where it ends."""

    lines: tuple[bytes, ...]
    note: bytes

    @classmethod
    def of(cls, workspace: Workspace) -> Log:
        text = (workspace.scratch / uses.FILE).read_bytes()
        return cls(tuple(text.splitlines(keepends=True)), _note(workspace).read_bytes())


def _note(workspace: Workspace) -> Path:
    return workspace.scratch / uses.HEAD


def record(workspace: Workspace, number: int) -> None:
    members = [uses.used("character/zhangsan@v1.0.0", "tensors-sha256-v1:" + "a" * 64)]
    uses.record(workspace, "export", ZHANGSAN, {"members": members, "out": f"{number}.png"})


def holds(workspace: Workspace) -> bool:
    return all(finding.ok for finding in uses.check(workspace))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """Five uses, in a registry without git."""
    top = tmp_path_factory.mktemp("written")
    (top / "lorareg.yaml").write_text("schema: lorareg/1\nname: scratch\n")
    workspace = Workspace(top)
    for number in range(COUNT):
        record(workspace, number)
    assert holds(workspace)
    return Log.of(workspace)


def is_noticed(log: Log, data: bytes) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        workspace.scratch.mkdir()
        (workspace.scratch / uses.FILE).write_bytes(data)
        _note(workspace).write_bytes(log.note)
        return not holds(workspace)


def test_a_log_that_nobody_touched_holds(written: Log) -> None:
    assert not is_noticed(written, b"".join(written.lines))


@given(data=st.data())
def test_any_byte_that_is_changed_is_noticed(written: Log, data: st.DataObject) -> None:
    whole = b"".join(written.lines)
    place = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda each: each != whole[place]))

    assert is_noticed(written, whole[:place] + bytes([byte]) + whole[place + 1 :])


@given(data=st.data())
def test_any_line_that_is_removed_or_moved_is_noticed(written: Log, data: st.DataObject) -> None:
    lines = list(written.lines)
    line = lines.pop(data.draw(st.integers(0, COUNT - 1)))
    place = data.draw(st.integers(0, COUNT - 1))
    moved = [*lines[:place], line, *lines[place:]]

    assert is_noticed(written, b"".join(lines))
    assert (moved == list(written.lines)) != is_noticed(written, b"".join(moved))


@given(data=st.data())
def test_any_end_that_is_cut_off_is_noticed(written: Log, data: st.DataObject) -> None:
    whole = b"".join(written.lines)
    end = data.draw(st.integers(0, len(whole) - 2))  # the last byte ends the line, no more

    assert is_noticed(written, whole[:end])


@given(number=st.integers(0, COUNT - 1), key=st.sampled_from(["who", "purpose", "out", "time"]))
def test_a_line_that_is_made_anew_with_its_digest_breaks_the_chain(
    written: Log, number: int, key: str
) -> None:
    entry = json.loads(written.lines[number]) | {key: "another"}
    entry["hash"] = uses._hash(entry)
    lines = [*written.lines]
    lines[number] = uses._line(entry) + b"\n"

    assert is_noticed(written, b"".join(lines))


def test_what_is_cut_off_stays_missing_however_much_is_written_after_it(registry: Path) -> None:
    workspace = Workspace(registry)
    for number in range(3):
        record(workspace, number)
    file = workspace.scratch / uses.FILE
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:1]))

    record(workspace, 3)
    record(workspace, 4)

    assert [entry["n"] for entry in uses.entries(workspace)] == [1, 4, 5]
    assert not holds(workspace)


def test_a_log_that_is_gone_is_missed_by_git_s_folder(registry: Path) -> None:
    (registry / ".git").mkdir()
    workspace = Workspace(registry)
    record(workspace, 0)

    (workspace.scratch / uses.FILE).unlink()

    (finding,) = uses.check(workspace)
    assert "it had 1 lines" in finding.detail
    assert "missing at the end" in finding.detail


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_a_line_that_a_kill_cut_off_is_put_aside_and_the_chain_goes_on(
    registry: Path, kept: int
) -> None:
    workspace = Workspace(registry)
    record(workspace, 0)
    before = Log.of(workspace)
    record(workspace, 1)
    file, torn = workspace.scratch / uses.FILE, Log.of(workspace).lines[1][: kept or None]
    file.write_bytes(before.lines[0] + torn)
    _note(workspace).write_bytes(before.note)  # it is written after the line

    record(workspace, 2)

    assert holds(workspace)
    aside = workspace.scratch / uses.TORN
    if kept == -1:  # nothing but the end of the line is missing: the use is not lost
        assert not aside.exists()
        assert [entry["out"] for entry in uses.entries(workspace)] == ["0.png", "1.png", "2.png"]
    else:
        assert aside.read_bytes() == torn + b"\n"
        assert [entry["out"] for entry in uses.entries(workspace)] == ["0.png", "2.png"]
        assert "cut off" in uses.check(workspace)[0].detail


def test_those_who_write_at_the_same_time_make_one_chain(registry: Path) -> None:
    workspace = Workspace(registry)
    threads = [
        threading.Thread(target=lambda: [record(workspace, number) for number in range(5)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [entry["n"] for entry in uses.entries(workspace)] == list(range(1, 21))
    assert holds(workspace)


def test_it_says_who_used_what_for_what(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = team.sit_down("bob")
    monkeypatch.setenv(uses.PURPOSE, "game trailer")

    record(workspace, 0)

    (entry,) = uses.entries(workspace)
    assert (entry["who"], entry["use"], entry["purpose"]) == ("bob", "export", "game trailer")
    assert uses.tells_of(entry, "character/zhangsan")
    assert not uses.tells_of(entry, "style/ink")
    assert str(team.root) not in json.dumps(entry)


def test_a_use_that_cannot_be_recorded_is_refused(team: Team) -> None:
    workspace = team.sit_down("bob")
    (workspace.scratch / uses.FILE).mkdir(parents=True)

    with pytest.raises(LoraregError, match="cannot be recorded, so it is refused"):
        record(workspace, 0)


def test_where_nobody_asks_a_use_goes_on_without_its_record(registry: Path) -> None:
    workspace = Workspace(registry)
    (workspace.scratch / uses.FILE).mkdir(parents=True)

    record(workspace, 0)

    assert (workspace.scratch / uses.FILE).is_dir()
