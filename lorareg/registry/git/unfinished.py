"""In what state git was left: what was begun and not ended, and what nobody else has yet."""

from __future__ import annotations

from pathlib import Path

from lorareg.registry.git.command import call

# file in git's folder -> what is going on, how it is gone on with, how it is given up
BEGUN = {
    "rebase-merge": ("a rebase", "git rebase --continue", "git rebase --abort"),
    "rebase-apply": ("a rebase", "git rebase --continue", "git rebase --abort"),
    "MERGE_HEAD": ("a merge", "git commit", "git merge --abort"),
    "CHERRY_PICK_HEAD": ("a cherry-pick", "git cherry-pick --continue", "git cherry-pick --abort"),
    "REVERT_HEAD": ("a revert", "git revert --continue", "git revert --abort"),
    "BISECT_LOG": ("a bisect", "git bisect run COMMAND", "git bisect reset"),
}


def begun(root: Path) -> list[tuple[str, str, str]]:
    """What was begun and not ended: what, how it is gone on with, how it is given up."""
    found = [words for name, words in BEGUN.items() if git_path(root, name).exists()]
    return list(dict.fromkeys(found))


def git_path(root: Path, name: str) -> Path:
    """A file in git's own folder, wherever that is."""
    return root / call(root, ["rev-parse", "--git-path", name]).must_succeed().line


def is_repository(root: Path) -> bool:
    """Whether git keeps the history of a folder."""
    return call(root, ["rev-parse", "--git-dir"]).status == 0


def unpushed(root: Path) -> int | None:
    """Commits of this branch that its upstream lacked at the last fetch; None: it has none."""
    counted = call(root, ["rev-list", "--count", "@{upstream}..HEAD"])
    return int(counted.line) if counted.status == 0 else None


def unpushed_tags(root: Path) -> list[str]:
    """Tags on commits that no remote-tracking branch has; empty where there is no remote."""
    if not call(root, ["for-each-ref", "--count=1", "refs/remotes"]).line:
        return []
    alone = call(root, ["rev-list", "--tags", "--not", "--remotes"]).must_succeed().text.split()
    wanted = ["for-each-ref", "--format=%(refname:strip=2) %(objectname) %(*objectname)"]
    rows = call(root, [*wanted, "refs/tags"]).must_succeed().text.splitlines()
    return [row.split()[0] for row in rows if set(alone) & set(row.split()[1:])]


def is_ignored(root: Path, name: str) -> bool:
    """Whether git leaves a path alone."""
    return call(root, ["check-ignore", "--quiet", "--", name]).status == 0


def twins(root: Path) -> list[tuple[str, str]]:
    """Committed paths that are one file on macOS and Windows."""
    seen: dict[str, str] = {}
    found = []
    for name in call(root, ["ls-files", "-z"]).must_succeed().text.split("\0"):
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            found.append((other, name))
    return found
