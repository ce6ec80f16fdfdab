"""Files made to take all memory or all time are refused soon, within bounds."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lorareg.errors import InvalidFileError, LoraregError
from lorareg.registry import header, jsontext, lock, yamlfile
from lorareg.registry.ids import AssetId
from lorareg.registry.releases import channels
from tests.faults.hostile.place import REPEATS, Counts, Place

LAUGHS = "a0: &a0 ha\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
DEEP = 100_000
SECONDS = 10.0  # of the processor
MEGABYTES = 700  # of a whole process; Python with what a command imports has some 60 to 120
MEASURED = r"""
import re, sys
from pathlib import Path
from typer.testing import CliRunner
from lorareg.cli.app import app
done = CliRunner().invoke(app, sys.argv[1:])
assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]
print(done.exit_code, int(peak) // 1024)
sys.stdout.write(done.stderr[-300:])
"""


def measured(root: Path, *arguments: str) -> tuple[int, int, float, str]:
    """Exit status, megabytes and seconds of a command in a process of its own, and its error."""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *arguments],
        cwd=root, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    head, _, rest = done.stdout.partition("\n")
    code, size = map(int, head.split())
    return code, size, time.monotonic() - start, rest


BOMBS = {
    "billion laughs": LAUGHS,
    "an alias to itself": "a: &a [*a]\n",
    "a merge key": "a: &a {b: 1}\nc: {<<: *a}\n",
    "a Python tag": "a: !!python/object/apply:os.system ['touch /tmp/x']\n",
    "a binary tag": "a: !!binary aGk=\n",
    "brackets": "a: " + "[" * DEEP,
    "braces": "{a: " * DEEP,
    "dashes": "- " * DEEP,
    "two documents": "a: 1\n---\nb: 2\n",
    "a key twice": "a: 1\na: 2\n",
    "a key that is a list": "? [a]\n: 1\n",
    "a long line": "a: " + "x" * 2_000_000,
    "a directive": "%YAML 9.9\n---\na: 1\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_yaml_bomb_is_refused_before_it_goes_off(name: str, tmp_path: Path) -> None:
    file = tmp_path / "manifest.yaml"
    file.write_text(BOMBS[name])
    start = time.process_time()

    with pytest.raises(InvalidFileError):
        yamlfile.load(file)

    assert time.process_time() - start < SECONDS


@pytest.mark.parametrize("text", [
    "[" * DEEP, '{"a":' * DEEP, '{"a": NaN}', '{"a": 1, "a": 2}', '"\\ud83d"', '{"a": Infinity}',
])  # fmt: skip
def test_json_that_can_be_read_in_two_ways_or_not_at_all_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"deep|JSON|twice|surrogates|Expecting"):
        jsontext.parse(text)


def test_a_lock_with_a_million_keys_is_refused_in_bounded_time(tmp_path: Path) -> None:
    file = tmp_path / "lock.json"
    file.write_text(json.dumps({f"k{n}": n for n in range(1_000_000 if REPEATS else 150_000)}))
    start = time.process_time()

    with pytest.raises(InvalidFileError) as refused:
        lock.load(file)

    assert time.process_time() - start < SECONDS
    assert len(str(refused.value)) < 100_000


def test_a_channels_file_with_a_million_channels_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "channels.yaml"
    lines = (f"c{n}: v1.0.0\n" for n in range(1_000_000))
    file.write_text("schema: lorareg/1\n" + "".join(lines))
    start = time.process_time()

    with pytest.raises(InvalidFileError, match="too large"):
        channels.load(file, AssetId("style", "ink"))

    assert time.process_time() - start < SECONDS


def test_as_many_channels_as_fit_into_a_file_are_too_many(tmp_path: Path) -> None:
    file = tmp_path / "channels.yaml"
    file.write_text("schema: lorareg/1\n" + "".join(f"c{n}: v1.0.0\n" for n in range(60_000)))

    with pytest.raises(InvalidFileError, match="32"):
        channels.load(file, AssetId("style", "ink"))


@pytest.mark.parametrize("length", [1 << 62, 1 << 32, 90_000_000, 2**64 - 1])
def test_a_header_that_claims_too_much_is_not_read(length: int, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    with file.open("wb") as stream:
        stream.write(length.to_bytes(8, "little") + b"{}")
        stream.truncate(100_000_000)  # sparse

    with pytest.raises(InvalidFileError):
        header.read_header(file)


HUGE = {
    "manifest.yaml": ("show", "style/ink"),
    "lock.json": ("status",),
    "weights.dvc": ("push", "--dry-run"),
    "releases.json": ("verify", "style/ink"),
    "/manifests/policy.yaml": ("policy", "check"),
    "/lorareg.yaml": ("push", "--dry-run"),
}


@pytest.mark.parametrize("name", HUGE)
def test_a_file_of_100_megabytes_is_refused_in_little_memory(name: str, place: Place) -> None:
    with place.path(name).open("ab") as stream:
        for _ in range(100):
            stream.write(b" " * 999_999 + b"\n")
    start = time.process_time()

    answer = place.run(*HUGE[name])

    assert answer.problems() == []
    assert answer.code in (1, 2)
    assert "too large" in answer.text
    assert time.process_time() - start < SECONDS


def test_what_is_refused_takes_no_memory(place: Place) -> None:
    """One process for a lock of 100 MB and one for blobs of 100 MB behind a tag."""
    with place.path("lock.json").open("ab") as stream:
        for _ in range(100):
            stream.write(b" " * 999_999 + b"\n")
    code, size, seconds, said = measured(place.root, "verify", "style/ink")
    sys.stdout.write(f"\nlock of 100 MB: status {code}, {size} MB, {seconds:.1f} s\n")
    assert code in (1, 2)
    assert size < MEGABYTES

    place.git("add", "-f", "manifests/style/ink/lock.json")
    place.git("commit", "--quiet", "-m", "large")
    place.git("tag", "-a", "-m", "large", "style/ink@v8.0.0")
    place.git("checkout", "--quiet", "HEAD~1", "--", "manifests")
    code, size, seconds, said = measured(place.root, "show", "style/ink@v8.0.0")
    sys.stdout.write(f"blob of 100 MB behind a tag: status {code}, {size} MB, {seconds:.1f} s\n")
    assert (code, size < MEGABYTES) == (2, True), said


def test_many_deep_files_at_once_end_no_command(place: Place) -> None:
    counts = Counts("all files at once", 0)
    for text in ("[" * DEEP, LAUGHS, "\0" * 100, '{"a": ' * DEEP):
        for file in sorted(place.path("").iterdir()):
            if file.is_file():
                file.write_text(text)
        for command in (("list",), ("status",), ("verify",), ("pull",), ("push", "--dry-run")):
            counts.cases += 1
            counts.attempt(place, f"{text[:6]!r} everywhere", command)
    counts.report()


def test_errors_are_of_one_kind(place: Place) -> None:
    """A lock whose values are as large as they may be is refused with an error that can be read."""
    document = json.loads(place.path("lock.json").read_text())
    document |= {f"key {n}" * 50: "x" * 1000 for n in range(2000)}
    place.path("lock.json").write_text(json.dumps(document))

    with pytest.raises(LoraregError) as refused:
        lock.load(place.path("lock.json"))

    assert len(str(refused.value)) < 200_000
