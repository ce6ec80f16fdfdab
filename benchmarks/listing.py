"""How long ``lorareg list --json`` takes on a thousand manifests, as a whole process."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ASSETS = 1000
RUNS = 7
PROBE = (
    "import sys; from lorareg.cli.app import app; app(['list', '--json'], standalone_mode=False)"
)


def main() -> None:
    """Generate the registry, then time."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _generate(root)
        first = _seconds(root)
        warm = [_seconds(root) for _ in range(RUNS)]
        cold = []
        for _ in range(RUNS):
            shutil.rmtree(root / ".lorareg", ignore_errors=True)
            cold.append(_seconds(root))
        probe = f"{PROBE}; print('torch' in sys.modules, file=sys.stderr)"
        torch = subprocess.run(
            [sys.executable, "-c", probe], cwd=root, capture_output=True, text=True, check=True
        ).stderr.strip()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"lorareg list --json, {ASSETS} manifests, median of {RUNS} (first run {first:.2f} s)")
    print(f"  without .lorareg  {statistics.median(cold):.2f} s")
    print(f"  with .lorareg     {statistics.median(warm):.2f} s")
    print(f"  torch loaded: {torch}")


def _generate(root: Path) -> None:
    (root / "lorareg.yaml").write_text("schema: lorareg/1\nname: many\n", encoding="utf-8")
    for number in range(ASSETS):
        folder = root / "manifests" / "character" / f"person-{number:04d}"
        folder.mkdir(parents=True)
        text = Path(__file__).with_name("manifest_template.yaml").read_text(encoding="utf-8")
        name = f"name: person-{number:04d}"
        (folder / "manifest.yaml").write_text(text.replace("name: NAME", name), encoding="utf-8")


def _seconds(root: Path) -> float:
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "lorareg", "list", "--json"],
        cwd=root,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
