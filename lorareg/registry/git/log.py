"""Who committed what below a folder, and which tags stand where: one git process each."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from lorareg.registry.git.command import call

FORMAT = "%H%n%P%n%an%n%cI%n%s"


@dataclass(frozen=True)
class Entry:
    """One commit.

    Attributes:
        parent: the first one; None of the first commit.
        author: as git says; whoever commits may say anything.
        date: of the commit, ISO 8601; clocks go wrong, so nothing is ordered by it.
    """

    commit: str
    parent: str | None
    author: str
    date: str
    subject: str


def entries(root: Path, folder: str, limit: int | None) -> list[Entry]:
    """The commits that changed a folder, children before parents.

    Args:
        root: of the repository.
        folder: relative to it.
        limit: how many, from the newest; None is all.
    """
    command = ["log", "-z", "--topo-order", f"--format={FORMAT}"]
    command += [f"--max-count={limit}"] if limit is not None else []
    found = call(root, [*command, "HEAD", "--", f":(literal){folder}"]).must_succeed().text
    return [_entry(each) for each in found.split("\0") if each]


def tags(root: Path, pattern: str = "*") -> dict[str, list[str]]:
    """Commit -> names of the tags on it, of those that fit a pattern such as ``style/ink@*``."""
    asked = "--format=%(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end) %(refname)"
    lines = call(root, ["for-each-ref", asked, f"refs/tags/{pattern}"]).must_succeed().text
    found: dict[str, list[str]] = defaultdict(list)
    for line in lines.splitlines():
        commit, _, name = line.partition(" ")
        found[commit].append(name.removeprefix("refs/tags/"))
    return dict(found)


def _entry(text: str) -> Entry:
    commit, parents, author, date, subject = text.split("\n", 4)
    return Entry(commit, next(iter(parents.split()), None), author, date, subject.strip())
