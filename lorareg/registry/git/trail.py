"""The history of a folder, commit by commit, in three git processes however long it is."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import ExternalToolError
from lorareg.registry.git.command import call

NOTHING = "0" * 40
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # git knows it without having it
COMMITS = 2000  # whose changes are asked for at a time
BYTES = 64_000_000  # of files that are held in memory at a time


@dataclass(frozen=True)
class Step:
    """One commit.

    Attributes:
        commit, parents: 40 hex digits each.
        changes: for each parent (for a first commit: for nothing) path -> blob id, None where the
            path is gone.
    """

    commit: str
    parents: tuple[str, ...]
    changes: tuple[Mapping[str, str | None], ...]


def is_shallow(root: Path) -> bool:
    """Whether the beginning of the history is not here."""
    return call(root, ["rev-parse", "--is-shallow-repository"]).line == "true"


def is_ancestor(root: Path, older: str, newer: str) -> bool:
    """Whether a commit is in the history of another, or is it."""
    return call(root, ["merge-base", "--is-ancestor", older, newer]).status == 0


def graph(root: Path, revision: str, after: str | None = None) -> list[tuple[str, ...]]:
    """Each commit with its parents, parents first.

    Args:
        root: of the repository.
        revision: the newest commit.
        after: leave out this commit and all before it.
    """
    command = ["rev-list", "--topo-order", "--reverse", "--parents", revision]
    if after:
        command.append(f"^{after}")
    lines = call(root, [*command, "--"]).must_succeed().text.splitlines()
    return [tuple(line.split()) for line in lines]


def steps(root: Path, commits: list[tuple[str, ...]], folder: str) -> Iterator[Step]:
    """What commits changed below a folder, compared with every one of their parents."""
    for start in range(0, len(commits), COMMITS):
        some = commits[start : start + COMMITS]
        edges = [(c, p) for c, *parents in some for p in parents or [""]]
        given = "".join(f"{commit} {parent}".rstrip() + "\n" for commit, parent in edges)
        options = ["--root", "--raw", "-r", "-z", "--no-renames", "--no-abbrev", "--always"]
        found = _asked(root, ["diff-tree", "--stdin", *options, "--", folder], given)
        changes = _changes(found.decode("utf-8", "surrogateescape"))
        for commit, *parents in some:
            each = tuple(next(changes) for _ in parents or [""])
            yield Step(commit, tuple(parents), each)


def _changes(text: str) -> Iterator[dict[str, str | None]]:
    found: dict[str, str | None] | None = None
    words = iter(text.split("\0")[:-1])
    for word in words:
        if not word.startswith(":"):
            if found is not None:
                yield found
            found = {}
        elif found is not None:
            blob = word.split()[3]
            found[next(words)] = None if blob == NOTHING else blob
    if found is not None:
        yield found


def difference(root: Path, since: str | None, paths: Collection[str]) -> str:
    """How files on disk differ from a commit, as a patch; None compares with nothing."""
    wanted = [f":(literal){path}" for path in paths]
    options = ["--no-color", "--no-ext-diff", "--no-textconv"]
    return call(root, ["diff", *options, since or EMPTY_TREE, "--", *wanted]).must_succeed().text


def changed_since(root: Path, base: str, folder: str) -> list[str]:
    """Files below a folder that HEAD has otherwise than where it left ``base``."""
    found = call(root, ["diff", "--name-only", "-z", f"{base}...HEAD", "--", folder])
    return found.must_succeed().text.split("\0")[:-1]


def blobs(root: Path, ids: Collection[str], limit: int) -> Iterator[tuple[str, bytes]]:
    """Contents of files by blob id; one larger than ``limit`` bytes, or no file, is left out.

    Raises:
        ExternalToolError: the repository is damaged.
    """
    given = "".join(f"{each}\n" for each in dict.fromkeys(ids))
    if not given:
        return
    checked = _asked(root, ["cat-file", "--batch-check"], given).decode()
    batch: list[str] = []
    waiting = 0
    for line in checked.splitlines():
        name, kind, *size = line.split()
        if kind != "blob" or int(size[0]) > limit:
            continue
        if batch and waiting + int(size[0]) > BYTES:
            yield from _contents(root, batch)
            batch, waiting = [], 0
        batch.append(name)
        waiting += int(size[0])
    yield from _contents(root, batch)


def _contents(root: Path, ids: list[str]) -> Iterator[tuple[str, bytes]]:
    given = "".join(f"{each}\n" for each in ids)
    data = _asked(root, ["cat-file", "--batch"], given)
    place = 0
    while place < len(data):
        end = data.index(b"\n", place)
        name, kind, *size = data[place:end].decode().split()
        if kind != "blob":
            raise ExternalToolError(
                f"git has lost the object {name}", why=kind, fix="git fsck; or clone anew"
            )
        begin = end + 1
        yield name, data[begin : begin + int(size[0])]
        place = begin + int(size[0]) + 1


def _asked(root: Path, command: list[str], given: str) -> bytes:
    """What git answers to lines on its standard input."""
    with tempfile.TemporaryFile() as stream:  # a pipe could fill up while git answers
        stream.write(given.encode())
        stream.seek(0)
        return call(root, command, stdin=stream).must_succeed().output
