"""The newest release of every asset, read from git's files as git itself would say it."""

from __future__ import annotations

from pathlib import Path

from lorareg.registry import newest
from tests.registry.releases.team import git

TAGS = (
    "style/ink@v1.9.0",
    "style/ink@v1.10.0",
    "style/ink@v1.10.0-rc1",
    "style/ink#prod#1",
    "character/zhangsan@v2.0.0",
    "v9.0.0",
)


def test_the_newest_is_by_number_and_the_same_loose_packed_and_in_a_second_checkout(
    tmp_path: Path,
) -> None:
    root, second = tmp_path / "one", tmp_path / "two"
    root.mkdir()
    git(root, "init", "--quiet")
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    git(root, *who, "commit", "--quiet", "--allow-empty", "-m", "start")
    for tag in TAGS:
        git(root, "tag", tag)

    loose = newest.of_all(root)
    git(root, "pack-refs", "--all")
    git(root, "tag", "character/zhangsan@v2.0.1")
    git(root, "worktree", "add", "--quiet", str(second))

    assert loose == {"style/ink": "v1.10.0", "character/zhangsan": "v2.0.0"}
    assert newest.of_all(root) == newest.of_all(second) == loose | {"character/zhangsan": "v2.0.1"}
    assert newest.of(root, "style/ink") == "v1.10.0"
    assert newest.of(tmp_path, "style/ink") is None
