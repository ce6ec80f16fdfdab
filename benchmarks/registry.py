"""How long the registry takes on 10,000 assets, each figure with what it was promised to be.

Whole processes, as a person waits for them; compiled modules are kept in a folder of their own, as
an installed package has them. Medians; the base of comparison runs in turns with what is compared.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.registry_assets import make

ASSETS = 10_000
ADAPTERS = 1_000  # pushed at once
ADAPTER_BYTES = 256 << 10  # of a small one: rank 4 on a small base
STARTS = 20
RUNS = 7
HELLO = """\
import typer

app = typer.Typer()


@app.command()
def hello(name: str = "world") -> None:
    print(f"hello {name}")


app()
"""
PARTS = ["start", "look", "resolve", "push"]
LORAREG = [sys.executable, "-m", "lorareg"]
CHANNELS = """\
schema: lorareg/1
stable: v1.4.0
canary: {version: v1.5.0, share: 5%, salt: s1}
"""


@dataclass(frozen=True)
class Took:
    """One run: seconds on the clock, and of the processor."""

    wall: float
    cpu: float


def main() -> None:
    """Print the figures that are asked for; by default all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="*", help=", ".join(PARTS))
    parser.add_argument("--assets", type=int, default=ASSETS)
    wanted = parser.parse_args()
    parts = wanted.part or PARTS
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.environ["PYTHONPYCACHEPREFIX"] = str(place / "compiled")
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        if "start" in parts:
            start(place)
        if "look" in parts:
            look(place / "many", wanted.assets)
        if "resolve" in parts:
            resolve(place / "one")
        if "push" in parts:
            push(place / "pushed")


def start(place: Path) -> None:
    """``lorareg --version`` in turns with the smallest program that typer makes."""
    hello = place / "hello.py"
    hello.write_text(HELLO, encoding="utf-8")
    bare, ours = [sys.executable, str(hello)], [*LORAREG, "--version"]
    for command in (bare, ours):
        _run(command, place)
    pairs = [(_run(bare, place), _run(ours, place)) for _ in range(STARTS)]
    wall = statistics.median(b.wall / a.wall for a, b in pairs)
    cpu = statistics.median(b.cpu / a.cpu for a, b in pairs)
    _say("typer hello", [a for a, _ in pairs])
    _say("lorareg --version", [b for _, b in pairs])
    print(f"  lorareg --version is {wall:.2f} of a typer hello ({cpu:.2f} of its CPU): at most 1.5")


def look(root: Path, count: int) -> None:
    """``list``, ``show`` and ``status`` on many assets."""
    began = time.perf_counter()
    make(root, count)
    print(f"{count:,} assets made in {time.perf_counter() - began:.0f} s")
    time.sleep(3)  # what was written just now is not remembered
    first = {name: _run([*LORAREG, name], root) for name in ("list", "status")}
    for name, limit in (("list", 0.5), ("list --json", 0.5), ("status", 3.0)):
        took = [_run([*LORAREG, *name.split()], root) for _ in range(RUNS)]
        cold = f"; the first one {first[name].wall:.1f} s" if name in first else ""
        _say(name, took, f"at most {limit:g} s{cold}")
    for name in ("character/asset-00100", "asset-00100"):
        took = [_run([*LORAREG, "show", name], root) for _ in range(RUNS)]
        _say(f"show {name}", took, "at most 0.2 s")


def resolve(root: Path) -> None:
    """Which release a subject gets, in process, with the channels read each time."""
    make(root, 1)
    code = f"""
import statistics, time
from pathlib import Path
from lorareg.registry.ids import AssetId
from lorareg.registry.releases import channels, resolve
asset = AssetId("character", "asset-00000")
file = Path("manifests") / str(asset) / "channels.yaml"
file.write_text({CHANNELS!r})
took = []
for number in range(1001):
    began = time.perf_counter()
    resolve.choose(asset, channels.load(file, asset), "stable", f"player-{{number}}")
    took.append(time.perf_counter() - began)
print(f"  resolve: {{statistics.median(took) * 1e3:.2f}} ms, the slowest of 1,000 "
      f"{{max(took[1:]) * 1e3:.2f}} ms: at most 50 ms warm")
"""
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def push(place: Path) -> None:
    """``lorareg push`` of small adapters to a folder, beside copying and hashing their files."""
    root, remote, far = place / "registry", place / "remote", place / "far.git"
    assets = make(root, ADAPTERS, weights_bytes=ADAPTER_BYTES, data=False)
    remote.mkdir()
    _git(place, "init", "--quiet", "--bare", str(far))
    _git(root, "remote", "add", "origin", str(far))
    _git(root, "push", "--quiet", "origin", "HEAD:refs/heads/main")
    config = root / ".dvc" / "config"
    config.write_text(
        f"[core]\n    analytics = false\n    remote = storage\n"
        f"['remote \"storage\"']\n    url = {remote}\n",
        encoding="utf-8",
    )
    files = sorted(root.glob("manifests/*/*/weights/*"))
    time.sleep(3)  # manifests written just now are read each time
    bare = _copied(files, place / "copied")
    took = _run([*LORAREG, "push"], root)
    there = sum(1 for path in remote.glob("files/md5/??/*") if not path.name.endswith(".dir"))
    size = sum(path.stat().st_size for path in files) / 1e6
    print(
        f"push of {len(assets):,} assets, {len(files):,} files of {size:,.0f} MB ({there:,} there)"
    )
    print(f"  copying, sha256 and md5 alone {bare.wall:.2f} s, CPU {bare.cpu:.2f} s")
    _say("lorareg push", [took])
    print(f"  that is {took.wall / bare.wall:.2f} times as long: at most 2")
    again = _run([*LORAREG, "push"], root)
    _say("again, with nothing to do", [again])


def _copied(files: Sequence[Path], folder: Path) -> Took:
    """The least that a push has to do: read each file, hash it twice, write it, sync it."""
    folder.mkdir()
    began, cpu = time.perf_counter(), time.process_time()
    for number, file in enumerate(files):
        with file.open("rb") as stream:
            hashlib.file_digest(stream, "sha256")
        with file.open("rb") as stream:
            hashlib.file_digest(stream, "md5")
        shutil.copyfile(file, folder / str(number))
    return Took(time.perf_counter() - began, time.process_time() - cpu)


def _run(command: Sequence[str], folder: Path) -> Took:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(command[1:])} ended with {done.returncode}\n{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Took(wall, used)


def _say(what: str, took: Sequence[Took], promise: str = "") -> None:
    wall = statistics.median(each.wall for each in took)
    cpu = statistics.median(each.cpu for each in took)
    fastest = min(each.wall for each in took)
    tail = f": {promise}" if promise else ""
    print(f"  {what}: {wall:.2f} s (fastest {fastest:.2f} s, CPU {cpu:.2f} s){tail}", flush=True)


def _git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
