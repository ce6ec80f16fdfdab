"""How fast pictures are checked, next to decoding alone; ``calibrate`` shows how well.

Each figure is the median of whole processes, those that are compared taking turns.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.data_calibration import calibrate
from benchmarks.data_photos import photographs
from lorareg.registry import dataset
from lorareg.registry.digest import DigestCache
from lorareg.trainers.data.check import pictures, similar
from lorareg.trainers.data.check.alike import DISTANCE
from lorareg.trainers.data.check.probes import probe_all

PICTURES, MANY, RUNS = 2000, 10_000, 7
HASHES = (12_500, 25_000, 50_000, 100_000)


def main() -> None:
    """Print the tables, or do one timed part of them."""
    parts: dict[str, Callable[[Path], None]] = {
        "calibrate": calibrate, "bare": bare, "check": check, "peer": peer
    }  # fmt: skip
    if len(sys.argv) == 3 and sys.argv[1] in parts:
        parts[sys.argv[1]](Path(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        photographs(top / "pictures", PICTURES)
        photographs(top / "many", MANY, side=64)
        print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores", end=", ")
        print(f"Python {platform.python_version()}, Pillow {Image.__version__}")
        cold(top)
        warm(top)
        memory(top)
    near()


def cold(top: Path) -> None:
    """Nothing is remembered: every picture is decoded and measured."""
    size = sum(path.stat().st_size for path in (top / "pictures").iterdir()) / PICTURES / 1000
    print(
        f"\n{PICTURES} pictures 512x512, JPEG, {size:.0f} KB each; median of {RUNS}, taking turns"
    )
    parts = ["bare", "check", *(["peer"] if importlib.util.find_spec("cleanvision") else [])]
    seconds: dict[str, list[float]] = {part: [] for part in parts}
    for _ in range(RUNS):
        for part in parts:
            (top / "pictures.sqlite").unlink(missing_ok=True)
            seconds[part].append(_run(part, top / "pictures")[0])
    names = {"bare": "Pillow decoding alone, 2 processes", "check": "check", "peer": "cleanvision"}
    for part, taken in seconds.items():
        rate = PICTURES / statistics.median(taken)
        print(f"  {names[part]:36} {statistics.median(taken):6.2f} s  {rate:5.0f} pictures/s")
    ratios = [one / other for one, other in zip(seconds["bare"], seconds["check"], strict=True)]
    shown = " ".join(f"{ratio:.2f}" for ratio in ratios)
    calm = min(seconds["bare"]) / min(seconds["check"])
    print(f"  check's share of the throughput: {statistics.median(ratios):.2f} ({shown})")
    print(f"  the same of the fastest run each, which others disturbed least: {calm:.2f}")


def warm(top: Path) -> None:
    """Everything is remembered: a stat a file, and two reads of a database."""
    time.sleep(2.5)  # a file changed within two seconds is not remembered
    _run("check", top / "many")
    seconds, said = zip(*(_run("check", top / "many") for _ in range(RUNS)), strict=True)
    print(f"\n{MANY} pictures, nothing changed; median of {RUNS}")
    print(f"  whole process {statistics.median(seconds):.2f} s; {said[-1]}")


def memory(top: Path) -> None:
    """Peak of the largest process; three times the pictures, by bytes after their end."""
    print("\npeak memory, MB: process, largest worker")
    more = top / "more"
    more.mkdir()
    for copy in range(3):
        for path in sorted((top / "pictures").iterdir()):
            (more / f"{copy}_{path.name}").write_bytes(path.read_bytes() + bytes([copy]))
    for folder in (top / "pictures", more):
        (top / f"{folder.name}.sqlite").unlink(missing_ok=True)
        _, said = _run("check", folder)
        print(f"  {len(list(folder.iterdir()))} pictures: {said.rpartition('memory ')[2]}")


def near() -> None:
    """Random hashes, a tenth of them within ``DISTANCE`` bits of another."""
    print(f"\nnear-duplicate search, {DISTANCE} of 64 bits; best of 3")
    random = np.random.default_rng(0)
    for count in HASHES:
        values = random.integers(0, 2**64, count, dtype=np.uint64, endpoint=False)
        for number in range(count // 10):
            bits = random.choice(64, random.integers(1, DISTANCE + 1), replace=False)
            values[-1 - number] = values[number] ^ np.bitwise_or.reduce(1 << bits.astype(np.uint64))
        hashes = {str(number): int(value) for number, value in enumerate(values)}
        best = min(_searched(hashes) for _ in range(3))
        found = len(similar.groups(hashes, DISTANCE))
        print(f"  {count:7} hashes  {best:6.3f} s  {found} groups of {count // 10} planted")


def bare(folder: Path) -> None:
    """Decode every picture, and nothing else, in two processes."""
    with get_context("fork").Pool(2) as pool:
        pool.map(_decode, sorted(folder.iterdir()), chunksize=16)


def check(folder: Path) -> None:
    """The picture half of ``lorareg data check``."""
    times = [time.perf_counter()]
    listing = dataset.scan(folder, DigestCache(folder.with_suffix(".digests")))
    times.append(time.perf_counter())
    files = {name: folder / name for name in listing.images}
    cache = folder.with_suffix(".sqlite")
    facts, broken = probe_all(files, listing.files, cache, lambda count: None)
    times.append(time.perf_counter())
    pictures.findings(
        facts, broken, listing.files, resolution=64, kind="character", held_out=()
    )  # fmt: skip
    times.append(time.perf_counter())
    scan, probe, find = (after - before for before, after in zip(times, times[1:], strict=False))
    # Not ru_maxrss, which starts at the peak of the process that started this one.
    own = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
    peaks = [int(own[1]) if own else 0, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]
    print(f"scan {scan:.2f} s, facts {probe:.2f} s, findings {find:.2f} s", end="; ")
    print(f"memory {peaks[0] // 1024}, {peaks[1] // 1024}")


def peer(folder: Path) -> None:
    """The checks of cleanvision, where it is installed."""
    from cleanvision import Imagelab

    Imagelab(data_path=str(folder)).find_issues(n_jobs=2, verbose=False)


def _decode(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


def _run(part: str, folder: Path) -> tuple[float, str]:
    """Seconds of a whole process, and the last line it printed."""
    command = [sys.executable, "-m", "benchmarks.data", part, str(folder)]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - start, done.stdout.strip().rpartition("\n")[2]


def _searched(hashes: Mapping[str, int]) -> float:
    start = time.perf_counter()
    similar.groups(hashes, DISTANCE)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
