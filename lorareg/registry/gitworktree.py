"""A second, clean checkout of the same history, for as long as it is needed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lorareg.registry.gitcommand import call


@contextmanager
def worktree(root: Path, commit: str, inside: Path | None) -> Iterator[Path]:
    """Check a commit out beside ``root``; the public face is ``History.worktree``."""
    if inside is not None:
        inside.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="lorareg-", dir=inside))
    tree = folder / folder.name  # git names its record after the last part
    try:
        # dvc install makes a post-checkout hook that would fetch data here
        no_hooks = ["-c", f"core.hooksPath={os.devnull}"]
        add = [*no_hooks, "worktree", "add", "--quiet", "--detach", str(tree), commit]
        call(root, add).must_succeed()
        yield tree
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        call(root, ["worktree", "prune"])
