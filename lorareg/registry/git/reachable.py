"""What git still reaches: its tags, and every text of its history that may name bytes."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lorareg.errors import LoraregError
from lorareg.registry.git import blobs
from lorareg.registry.git.command import NO_COMMANDS_IN_URLS, call

POINTERS = (".dvc", "dvc.lock", "lock.json")  # ends of names that always count
SMALL = 16_384  # bytes; any other file up to this is looked at too
AT_A_TIME = 2_000  # files of the history that are in memory
BESIDE_REFS = (
    "FETCH_HEAD", "MERGE_HEAD", "MERGE_AUTOSTASH", "CHERRY_PICK_HEAD", "REVERT_HEAD",
    "rebase-merge/autostash", "rebase-apply/autostash",
)  # fmt: skip
"""Files in git's folder by which git finds commits that no ref and no reflog names."""
COMMIT = re.compile(r"^[0-9a-f]{40}\b", re.MULTILINE)


def tag_state(root: Path) -> str:
    """A short text that changes when a tag is made, moved or removed."""
    listed = call(root, ["for-each-ref", "--format=%(objectname) %(refname)", "refs/tags"])
    return hashlib.sha256(listed.must_succeed().output).hexdigest()


def is_shallow(root: Path) -> bool:
    """Whether older commits were cut off when the repository was cloned."""
    return call(root, ["rev-parse", "--is-shallow-repository"]).must_succeed().line == "true"


def texts(root: Path) -> Iterator[bytes]:
    """Each distinct content of a pointer, or of another small file, that git still reaches.

    From all branches, local and remote-tracking, tags, stashes, HEAD and index of every worktree,
    and the reflogs, by which git itself still finds what a rebase or a reset left behind; also from
    what a rebase that stopped keeps for later. Git names one path for a content that it has at
    several, so the name alone does not say what is a pointer.

    Raises:
        ExternalToolError: the history is damaged, or cannot be read whole.
    """
    named = _commits(root, _beside_refs(root))
    yield from _texts(root, ["--all", "--reflog", "--indexed-objects", *named])


def texts_at(root: Path, commits: Iterable[str]) -> Iterator[bytes]:
    """The same of the trees of these commits, of which some may be gone."""
    here = _commits(root, commits)
    for start in range(0, len(here), AT_A_TIME):
        yield from _texts(root, ["--no-walk", *here[start : start + AT_A_TIME], "--not", "--all"])


def states(root: Path) -> list[str]:
    """What names a whole tree: branches, local and remote-tracking, tags, stashes and their parts.

    The third parent of a stash holds what git did not track.
    """
    named = call(root, ["for-each-ref", "--format=%(refname)"]).must_succeed().text.split()
    stashes = call(root, ["stash", "list", "--format=%H"]).text.split()
    return [*named, *stashes, *(f"{stash}^3" for stash in stashes)]


def require_fetched(root: Path) -> None:
    """Refuse while others have announced what is not here.

    Raises:
        LoraregError: a git remote has commits that were never fetched.
        ExternalToolError: it cannot be asked.
    """
    for remote in call(root, ["remote"]).must_succeed().text.split():
        asked = [*NO_COMMANDS_IN_URLS, "ls-remote", "--quiet", "--heads", "--tags", remote]
        there = {line.split()[0] for line in call(root, asked).must_succeed().text.splitlines()}
        here = {name for name, _, _ in _kinds(root, sorted(there))}
        if there - here:
            raise LoraregError(
                f"{remote} has commits that are not here",
                why="bytes that only they name would look unneeded",
                fix=f"git fetch --tags {remote}, then run this again",
            )


def _beside_refs(root: Path) -> list[str]:
    asked = [word for name in BESIDE_REFS for word in ("--git-path", name)]
    files = [
        root / line for line in call(root, ["rev-parse", *asked]).must_succeed().text.split("\n")
    ]
    texts = [file.read_text("utf-8", "replace") for file in files if file.is_file()]
    return [name for text in texts for name in COMMIT.findall(text)]


def _commits(root: Path, names: Iterable[str]) -> list[str]:
    """Those that are commits, and here."""
    return [name for name, kind, _ in _kinds(root, sorted(set(names))) if kind == "commit"]


def _texts(root: Path, which: Sequence[str]) -> Iterator[bytes]:
    lines = call(root, ["rev-list", "--objects", *which]).must_succeed().text.splitlines()
    named = dict(line.partition(" ")[::2] for line in lines)
    pointers = [blob for blob, path in named.items() if path.endswith(POINTERS)]
    others = [blob for blob, path in named.items() if path and not path.endswith(POINTERS)]
    small = [name for name, kind, size in _kinds(root, others) if kind == "blob" and size <= SMALL]
    wanted = [*pointers, *small]
    for start in range(0, len(wanted), AT_A_TIME):
        yield from blobs.read(root, wanted[start : start + AT_A_TIME]).values()


def _kinds(root: Path, objects: Sequence[str]) -> list[tuple[str, str, int]]:
    """Of each object that is here: its name, its kind and its bytes."""
    if not objects:
        return []
    check = "--batch-check=%(objectname) %(objecttype) %(objectsize)"
    with tempfile.TemporaryDirectory(prefix="lorareg-") as folder:
        asked = Path(folder, "objects")
        asked.write_text("".join(f"{name}\n" for name in objects), encoding="ascii")
        with asked.open("rb") as stream:
            answer = call(root, ["cat-file", check], stdin=stream).must_succeed()
    rows = (line.split() for line in answer.text.splitlines())
    return [(row[0], row[1], int(row[2])) for row in rows if len(row) == 3]
