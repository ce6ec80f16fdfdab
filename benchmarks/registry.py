"""How long the registry takes on 10,000 assets, each figure with what it was promised to be.

Whole processes, as a person waits for them; compiled modules are kept in a folder of their own, as
an installed package has them. Medians; the base of comparison runs in turns with what is compared.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import registry_push
from benchmarks.processes import run, say
from benchmarks.registry_assets import make

ASSETS = 10_000
ADAPTERS = 1_000  # pushed at once
PUSHES = 3
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
            registry_push.measure(place / "pushed", ADAPTERS, PUSHES)


def start(place: Path) -> None:
    """``lorareg --version`` in turns with the smallest program that typer makes."""
    hello = place / "hello.py"
    hello.write_text(HELLO, encoding="utf-8")
    bare, ours = [sys.executable, str(hello)], [*LORAREG, "--version"]
    for command in (bare, ours):
        run(command, place)
    pairs = [(run(bare, place), run(ours, place)) for _ in range(STARTS)]
    wall = statistics.median(b.wall / a.wall for a, b in pairs)
    cpu = statistics.median(b.cpu / a.cpu for a, b in pairs)
    say("typer hello", [a for a, _ in pairs])
    say("lorareg --version", [b for _, b in pairs])
    print(f"  lorareg --version is {wall:.2f} of a typer hello ({cpu:.2f} of its CPU): at most 1.5")


def look(root: Path, count: int) -> None:
    """``list``, ``show`` and ``status`` on many assets."""
    began = time.perf_counter()
    make(root, count)
    print(f"{count:,} assets made in {time.perf_counter() - began:.0f} s")
    time.sleep(3)  # what was written just now is not remembered
    first = {name: run([*LORAREG, name], root) for name in ("list", "status")}
    for name, limit in (("list", 0.5), ("list --json", 0.5), ("status", 3.0)):
        took = [run([*LORAREG, *name.split()], root) for _ in range(RUNS)]
        cold = f"; the first one {first[name].wall:.1f} s" if name in first else ""
        say(name, took, f"at most {limit:g} s{cold}")
    for name in ("character/asset-00100", "asset-00100"):
        took = [run([*LORAREG, "show", name], root) for _ in range(RUNS)]
        say(f"show {name}", took, "at most 0.2 s")


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


if __name__ == "__main__":
    main()
