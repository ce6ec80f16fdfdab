"""Many pictures measured at once: remembered, in processes that may die, and in silence."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from lorareg.errors import LoraregError
from lorareg.registry import digest
from lorareg.trainers.data.check import workers
from lorareg.trainers.data.check.probe import Facts, probe
from lorareg.trainers.data.check.probes import WORTH_PROCESSES, probe_all
from tests.trainers.check_photos import photo


def make(folder: Path, count: int) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    files = {f"{number:03}.png": folder / f"{number:03}.png" for number in range(count)}
    for number, path in enumerate(files.values()):
        photo(number, (48, 40)).save(path)
    return files


def check(
    files: Mapping[str, Path], cache: Path | None = None
) -> tuple[dict[str, Facts], dict[str, str], int]:
    done: list[int] = []
    digests = {name: digest.of_file(path) for name, path in files.items()}
    facts, broken = probe_all(files, digests, cache, done.append)
    return facts, broken, sum(done)


@pytest.mark.parametrize("count", [3, WORTH_PROCESSES + 9])
def test_threads_and_processes_give_what_one_at_a_time_gives(tmp_path: Path, count: int) -> None:
    files = make(tmp_path, count)
    files["🐼 张三.png"] = tmp_path / "🐼 张三.png"
    files["broken.jpg"] = tmp_path / "broken.jpg"
    photo(count).save(files["🐼 张三.png"])
    files["broken.jpg"].write_bytes(b"\xff\xd8\xff\xe0 nothing")

    facts, broken, done = check(files)

    assert facts == {name: probe(path) for name, path in files.items() if name != "broken.jpg"}
    assert list(broken) == ["broken.jpg"]
    assert done == count + 2


@pytest.mark.parametrize("count", [3, WORTH_PROCESSES + 9])
def test_nothing_is_decoded_twice(tmp_path: Path, count: int) -> None:
    files = make(tmp_path / "data", count)
    files["broken.jpg"] = tmp_path / "broken.jpg"
    files["broken.jpg"].write_bytes(b"nothing")
    digests = {name: digest.of_file(path) for name, path in files.items()}
    first = probe_all(files, digests, tmp_path / "cache/facts.sqlite", lambda done: None)
    for path in files.values():
        path.unlink()

    again = probe_all(files, digests, tmp_path / "cache/facts.sqlite", lambda done: None)

    assert again == first
    assert len(again[0]) == count


def test_a_damaged_cache_costs_time_only(tmp_path: Path) -> None:
    files = make(tmp_path / "data", 2)
    (tmp_path / "facts.sqlite").write_bytes(b"this is no database" * 100)

    found = [check(files, tmp_path / "facts.sqlite") for _ in range(2)]

    assert found[0] == found[1]
    with sqlite3.connect(tmp_path / "facts.sqlite") as database:
        assert database.execute("select count(*) from probe_1").fetchone() == (2,)


def test_a_file_that_may_not_be_read_is_asked_for_again(tmp_path: Path) -> None:
    files = make(tmp_path / "data", 1)
    moved = files["000.png"].rename(tmp_path / "moved.png")
    named = {"000.png": "sha256:1"}
    gone = probe_all(files, named, tmp_path / "facts.sqlite", lambda done: None)

    moved.rename(files["000.png"])
    back = probe_all(files, named, tmp_path / "facts.sqlite", lambda done: None)

    assert gone == ({}, {"000.png": "No such file or directory"})
    assert list(back[0]) == ["000.png"]


def test_one_content_under_two_names_is_measured_once(tmp_path: Path) -> None:
    files = make(tmp_path, 1)
    twice = {"a.png": files["000.png"], "b.jpg": tmp_path / "is never opened.jpg"}

    facts, _ = probe_all(twice, dict.fromkeys(twice, "sha256:1"), None, lambda done: None)

    assert facts["a.png"] == facts["b.jpg"]


def test_jpegs_with_close_hashes_get_their_colours(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("a.jpg", "b.jpg", "c.jpg")}
    photo(1).save(files["a.jpg"], quality=90)
    photo(1).save(files["b.jpg"], quality=60)
    photo(2).save(files["c.jpg"])

    cold = check(files, tmp_path / "facts.sqlite")[0]
    warm = check(files, tmp_path / "facts.sqlite")[0]

    assert [facts.tint is None for facts in cold.values()] == [False, False, True]
    assert warm == cold


@pytest.mark.parametrize("count", [1, WORTH_PROCESSES])
def test_pillow_does_not_speak_over_the_report(
    tmp_path: Path, count: int, capfd: pytest.CaptureFixture[str]
) -> None:
    files = make(tmp_path, count)
    big = Image.new("1", (10_000, 9_500))  # above Pillow's limit for a warning
    big.save(tmp_path / "big.png")
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0 damaged"
    photo(1).save(tmp_path / "exif.jpg", exif=exif)

    facts, _, _ = check({**files, "big": tmp_path / "big.png", "exif": tmp_path / "exif.jpg"})

    assert {"big", "exif"} <= facts.keys()
    assert capfd.readouterr() == ("", "")


def test_a_picture_that_kills_its_process_is_named_and_the_others_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = make(tmp_path / "data", WORTH_PROCESSES)
    deadly(tmp_path, monkeypatch, "os.kill(os.getpid(), 9)")
    files = {"deadly.png": tmp_path / "data/deadly.png", **files}
    photo(99).save(files["deadly.png"])

    facts, broken, done = check(files, tmp_path / "facts.sqlite")

    assert len(facts) == WORTH_PROCESSES
    assert list(broken) == ["deadly.png"]
    assert "signal 9" in broken["deadly.png"]
    assert done == WORTH_PROCESSES + 1
    with sqlite3.connect(tmp_path / "facts.sqlite") as database:  # next time it may go well
        assert database.execute("select count(*) from probe_1").fetchone() == (WORTH_PROCESSES,)


def test_a_process_that_dies_once_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = make(tmp_path / "data", WORTH_PROCESSES)
    mark = tmp_path / "died"
    once = f"not os.path.exists({str(mark)!r}) and (open({str(mark)!r}, 'w'), os._exit(3))"
    deadly(tmp_path, monkeypatch, once)
    files["deadly.png"] = tmp_path / "data/deadly.png"
    photo(99).save(files["deadly.png"])

    facts, broken, _ = check(files)

    assert mark.exists()
    assert (len(facts), broken) == (WORTH_PROCESSES + 1, {})


def test_processes_that_cannot_start_are_one_error_with_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = make(tmp_path / "data", WORTH_PROCESSES)
    (tmp_path / "site").mkdir()
    (tmp_path / "site/PIL.py").write_text("raise ImportError('no Pillow here')")
    monkeypatch.syspath_prepend(tmp_path / "site")

    with pytest.raises(LoraregError, match="cannot be started") as caught:
        check(files)

    assert "no Pillow here" in caught.value.why


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_check_leaves_no_process_and_keeps_what_it_knew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    files = make(tmp_path / "data", WORTH_PROCESSES)
    slow = f"open({str(tmp_path)!r} + f'/worker{{os.getpid()}}', 'w').close(); time.sleep(60)"
    deadly(tmp_path, monkeypatch, slow, statement=True)
    names = sorted(files)[:8] + ["deadly.png"] + sorted(files)[8:]
    photo(99).save(tmp_path / "data/deadly.png")
    code = (
        "import sys; from pathlib import Path\n"
        "from lorareg.trainers.data.check.probes import probe_all\n"
        "top = Path(sys.argv[1]); names = sys.argv[2].split()\n"
        "files = {name: top / 'data' / name for name in names}\n"
        "say = lambda done: print(done, file=open(top / 'done', 'a'))\n"
        "probe_all(files, {n: n for n in names}, top / 'facts.sqlite', say)"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), " ".join(names)],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    worker = _awaited(lambda: [int(p.name[6:]) for p in tmp_path.glob("worker*")], 30)[0]
    _awaited(lambda: (tmp_path / "done").exists(), 30)

    os.kill(running.pid, number)

    assert running.wait(20) != 0
    if number == signal.SIGKILL:
        os.kill(worker, signal.SIGKILL)  # it sleeps; the others saw their input end
    _awaited(lambda: not _is_alive_in_session(running.pid), 20)
    if number == signal.SIGINT:
        with sqlite3.connect(tmp_path / "facts.sqlite") as database:
            assert database.execute("select count(*) from probe_1").fetchone()[0] > 0


def deadly(
    folder: Path, monkeypatch: pytest.MonkeyPatch, action: str, *, statement: bool = False
) -> None:
    """Make workers do something when they open deadly.png, through a hook of their own Python."""
    site = folder / "site"
    site.mkdir()
    body = action if statement else f"({action})"
    (site / "sitecustomize.py").write_text(
        "import os, sys, time\n"
        "def hook(event, args):\n"
        "    if event == 'open' and str(args[0]).endswith('deadly.png') and 'worker' in _main():\n"
        f"        {body}\n"
        "def _main():\n"
        "    return ' '.join(sys.orig_argv)\n"
        "sys.addaudithook(hook)\n"
    )
    monkeypatch.syspath_prepend(site)


def _awaited(condition: object, seconds: float) -> list[int]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():  # type: ignore[operator]
            return found if isinstance(found, list) else []
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def _is_alive_in_session(session: int) -> bool:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            return True
    return False


def test_a_line_cut_off_by_death_is_no_answer() -> None:
    script = 'import sys; sys.stdout.write(\'{"a": 1}\\n{"b"\'); sys.stdout.flush()'
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)

    lines = list(workers._lines(process, 2))
    process.communicate(timeout=60)

    assert [json.loads(line) for line in lines] == [{"a": 1}]
