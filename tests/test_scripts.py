"""The README's two commands, as far as they can be run within a test."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("given", "wanted"), [([], None), (["here", "--json"], "here --json")])
def test_the_demo_of_a_clone_goes_to_a_folder_outside_of_it(
    tmp_path: Path, given: list[str], wanted: str | None
) -> None:
    told = tmp_path / "bin" / "lorareg"  # stands where set-up puts the command
    told.parent.mkdir()
    told.write_text('#!/bin/sh\necho "$@"\n', encoding="utf-8")
    told.chmod(0o755)
    (tmp_path / ".installed").touch()

    done = subprocess.run(
        [ROOT / "scripts" / "demo", *given],
        cwd=ROOT, env=os.environ | {"VENV": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    command, _, rest = done.stdout.strip().partition(" ")
    assert command == "demo"
    if wanted is None:
        assert not Path(rest).resolve().is_relative_to(ROOT)
        assert not Path(rest).exists(), "the demo wants a new folder"
    else:
        assert rest == wanted
