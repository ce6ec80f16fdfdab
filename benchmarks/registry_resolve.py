"""A gray release over a million subjects: its share, and that nobody who is in falls out again.

Then how long an answer takes, for the rule alone and for a registry that is asked.

    python -m benchmarks.registry_resolve
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lorareg.registry.ids import AssetId
from lorareg.registry.releases.channels import WHOLE, Channel, Channels, percent
from lorareg.registry.releases.resolve import choose
from lorareg.registry.releases.served import Resolver
from lorareg.registry.workspace import Workspace

SUBJECTS = 1_000_000
SHARES = (500, 2500, WHOLE)
RUNS = 1000
ASSET = AssetId("character", "zhangsan")
ALLOWED = 0.1  # percentage points that a share may be off


def main() -> None:
    """Simulate, then time."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    start = time.perf_counter()
    inside = {share: _inside(share, "s1") for share in SHARES}
    seconds = time.perf_counter() - start
    print(f"{SUBJECTS:,} subjects, {len(SHARES)} shares, in {seconds:.1f} s")
    for share, found in inside.items():
        print(f"  {percent(share):>5} asked, {100 * sum(found) / SUBJECTS:8.4f} % found")
    worst = max(abs(100 * sum(f) / SUBJECTS - share / 100) for share, f in inside.items())
    print(f"  furthest off: {worst:.4f} percentage points, at most {ALLOWED} is right")
    left = [
        sum(before and not after for before, after in zip(inside[low], inside[high], strict=True))
        for low, high in zip(SHARES, SHARES[1:], strict=False)
    ]
    print(f"  fell out as the share grew 5 -> 25 -> 100: {left}")
    print(f"  other answers in another process: {_others(inside[SHARES[0]])}")
    _independence(inside[2500])
    _times()
    sys.exit(worst > ALLOWED or any(left))


def _inside(share: int, salt: str) -> bytearray:
    """A byte for each subject: whether it gets the new release."""
    canary = Channel(version="v2.0.0", salt=salt).model_copy(update={"share": share})
    channels = Channels({"canary": canary, "stable": Channel(version="v1.0.0")})
    return bytearray(
        choose(ASSET, channels, "stable", f"player-{number}").channel == "canary"
        for number in range(SUBJECTS)
    )


def _others(here: bytearray) -> int:
    """How many of the first share's answers a new process gives otherwise."""
    code = (
        "import sys\n"
        "from benchmarks.registry_resolve import _inside\n"
        f"sys.stdout.buffer.write(bytes(_inside({SHARES[0]}, 's1')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return sum(one != other for one, other in zip(here, done.stdout, strict=True))


def _independence(first: bytearray) -> None:
    """Under another salt, those who were in are in again as often as anybody."""
    second = _inside(2500, "s2")
    both = sum(one and other for one, other in zip(first, second, strict=True))
    again = 100 * both / sum(first)
    print(f"  two salts at 25 %: {again:.3f} % of the first are in the second, 25 if independent")


def _times() -> None:
    """Of one answer: the rule, and a registry with a release out of git."""
    channels = Channels(
        {
            "canary": Channel(version="v2.0.0", salt="s1").model_copy(update={"share": 500}),
            "stable": Channel(version="v1.0.0"),
        }
    )
    start = time.perf_counter()
    for number in range(100 * RUNS):
        choose(ASSET, channels, "stable", f"player-{number}")
    print(f"the rule alone: {1e6 * (time.perf_counter() - start) / (100 * RUNS):.2f} us")
    from tests.registry.releases.released import build

    with tempfile.TemporaryDirectory() as folder:
        registry = build(Path(folder) / "registry")
        registry.write("stable: v1.2.0\ncanary: {version: v1.3.0, share: 5%, salt: s1}\n")
        registry.commit("channels")
        resolver, took = Resolver(Workspace(registry.root)), []
        for number in range(RUNS + 1):
            start = time.perf_counter()
            resolver.resolve("character/zhangsan@stable", subject=f"player-{number}")
            took.append(1e3 * (time.perf_counter() - start))
    warm = sorted(took[1:])
    print(
        f"Registry.resolve: first {took[0]:.1f} ms, then median {statistics.median(warm):.3f} ms, "
        f"99 of 100 below {warm[int(0.99 * len(warm))]:.3f} ms, longest {warm[-1]:.3f} ms"
    )


if __name__ == "__main__":
    main()
