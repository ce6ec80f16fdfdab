"""A second, clean checkout of the same history, for as long as it is needed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lorareg.registry.git.command import call

PREFIX = "lorareg-"
IN_USE = "in-use.lock"


@contextmanager
def worktree(root: Path, commit: str, inside: Path | None) -> Iterator[Path]:
    """Check a commit out beside ``root``; the public face is ``History.worktree``."""
    from filelock import FileLock

    _sweep(root)
    if inside is not None:
        inside.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=inside))
    tree = folder / folder.name  # git names its record after the last part
    try:
        with FileLock(folder / IN_USE):
            # dvc install makes a post-checkout hook that would fetch data here
            no_hooks = ["-c", f"core.hooksPath={os.devnull}"]
            add = [*no_hooks, "worktree", "add", "--quiet", "--detach", str(tree), commit]
            call(root, add).must_succeed()
            yield tree
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        call(root, ["worktree", "prune"])


def _sweep(root: Path) -> None:
    """Remove checkouts of commands that were killed, and git's records of them.

    Whoever uses one holds its lock; git itself never forgets one that was killed half-made.
    """
    from filelock import FileLock, Timeout

    common = root / call(root, ["rev-parse", "--git-common-dir"]).must_succeed().line
    for record in common.glob(f"worktrees/{PREFIX}*"):
        with suppress(OSError, Timeout):
            folder = Path((record / "gitdir").read_text("utf-8").strip()).parents[1]
            if folder.name != record.name:
                continue  # somebody else's
            if folder.is_dir():
                with FileLock(folder / IN_USE, timeout=0):
                    shutil.rmtree(folder)
            shutil.rmtree(record)
