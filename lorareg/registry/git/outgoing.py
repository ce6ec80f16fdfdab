"""What a push would announce, and the push itself: one branch and its releases, all or nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import ExternalToolError, LoraregError, listed
from lorareg.registry.git.command import NO_COMMANDS_IN_URLS, call

TAGS = "refs/tags/"
REJECTED = re.compile(
    r"non-fast-forward|fetch first|stale info|cannot lock ref|failed to update ref|already exists"
    r"|incorrect old value|reference already exists|failed to lock|atomic transaction failed"
)

NOT_BY_OTHERS = re.compile(
    r"Permission denied|No space left|Read-only file system|Not a directory|hook declined"
)


class OthersPushedError(ExternalToolError):
    """The remote moved on since it was looked at: get its commits, then push again."""


@dataclass(frozen=True)
class Commit:
    """A commit that a push would announce."""

    id: str
    subject: str


@dataclass(frozen=True)
class MovedTag:
    """A tag that names one object here and another one at the remote."""

    name: str
    here: str
    there: str


@dataclass(frozen=True)
class Outgoing:
    """What the remote lacks.

    Attributes:
        head: the commit that the remote's branch is to become.
        commits: oldest first.
        tags: annotated tags on these or older commits that the remote has no tag of that name for.
        moved: tags that the remote has otherwise.
        known: commits the remote has, as far as they are here too.
        up_to_date: whether the remote's branch is at ``head`` and no tag is missing.
    """

    remote: str
    branch: str
    head: str
    commits: tuple[Commit, ...]
    tags: tuple[str, ...]
    moved: tuple[MovedTag, ...]
    known: tuple[str, ...]
    up_to_date: bool


def outgoing(root: Path, remote: str, branch: str) -> Outgoing:
    """Ask the remote what it has; nothing is changed, not even what git remembers of it.

    Raises:
        ExternalToolError: it cannot be reached.
    """
    there = refs(root, remote)
    head = call(root, ["rev-parse", "HEAD^{commit}"]).must_succeed().line
    heads = [oid for name, oid in there.items() if name.startswith("refs/heads/")]
    known = tuple(oid for oid in dict.fromkeys(heads) if _is_here(root, oid))
    walk = ["log", "--reverse", "--format=%H %s", head, *(f"^{oid}" for oid in known)]
    lines = call(root, walk).must_succeed().text.splitlines()
    commits = tuple(Commit(*line.partition(" ")[::2]) for line in lines)
    ours = _annotated(root, head)
    missing = tuple(sorted(name for name in ours if TAGS + name not in there))
    same_branch = there.get(f"refs/heads/{branch}") == head
    return Outgoing(
        remote,
        branch,
        head,
        commits,
        missing,
        moved_tags(root, there),
        known,
        same_branch and not missing,
    )


def push(root: Path, what: Outgoing) -> None:
    """Announce the branch and its tags in one transaction: the remote takes all or nothing.

    The commit is named by its id, so that nothing which was committed meanwhile goes with it.

    Raises:
        OthersPushedError: the remote has commits or tags that were not there a moment ago.
        ExternalToolError: it refuses for another reason.
    """
    wanted = [f"{what.head}:refs/heads/{what.branch}"]
    wanted += [f"{TAGS}{name}:{TAGS}{name}" for name in what.tags]
    command = [*NO_COMMANDS_IN_URLS, "push", "--quiet", "--atomic", what.remote, *wanted]
    done = call(root, command)
    said = done.error
    if done.status != 0 and REJECTED.search(said) and not NOT_BY_OTHERS.search(said):
        raise OthersPushedError(
            f"{what.remote} did not take branch {what.branch}",
            why="it has commits that are not here: others pushed before",
            fix="lorareg pull, then push again",
        )
    if done.status != 0 and (reasons := _reasons(said)):
        raise ExternalToolError(
            f"{what.remote} refuses branch {what.branch}",
            why="\n" + listed([*reasons, done.last_words]),
            fix="mend that there, or ask whoever runs it; then push again: nothing was announced",
        )
    done.must_succeed()


def refuse_moved(moved: Sequence[MovedTag], remote: str) -> None:
    """Stop before a release would be announced under a name that means another one.

    Raises:
        LoraregError: it names the tags, and both ways out.
    """
    if not moved:
        return
    first = moved[0].name
    raise LoraregError(
        f"{len(moved)} tags mean other releases at {remote} than here",
        why="\n" + listed([described(each) for each in moved]),
        fix=f"to take the remote's: git tag -d {first} && git fetch {remote} tag {first}; "
        "where the one here is the right one, ask who moved it to put it back",
    )


def described(tag: MovedTag) -> str:
    """A moved tag in a line."""
    return f"{tag.name}: {tag.here[:10]} here, {tag.there[:10]} there"


def refs(root: Path, remote: str) -> dict[str, str]:
    """Every branch and tag of a remote: full name -> id of its object."""
    asked = [*NO_COMMANDS_IN_URLS, "ls-remote", "--quiet", "--heads", "--tags", "--refs", remote]
    lines = call(root, asked).must_succeed().text.splitlines()
    return {name: oid for oid, _, name in (line.partition("\t") for line in lines)}


def moved_tags(root: Path, there: Mapping[str, str]) -> tuple[MovedTag, ...]:
    """Tags that name one object here and another one there."""
    return tuple(
        MovedTag(name, oid, there[TAGS + name])
        for name, oid in sorted(local_tags(root).items())
        if there.get(TAGS + name, oid) != oid
    )


def local_tags(root: Path) -> dict[str, str]:
    """Every tag here: name -> id of its object."""
    format_ = "--format=%(objectname) %(refname)"
    lines = call(root, ["for-each-ref", format_, TAGS]).must_succeed().text.splitlines()
    pairs = (line.partition(" ") for line in lines)
    return {name.removeprefix(TAGS): oid for oid, _, name in pairs}


def _reasons(said: str) -> list[str]:
    """What the remote itself says: its hooks, its disk."""
    lines = [line.removeprefix("remote:").strip() for line in said.splitlines()
             if line.startswith("remote:")]  # fmt: skip
    return [line for line in lines if line]


def _annotated(root: Path, head: str) -> set[str]:
    """Annotated tags on a commit and on those before it."""
    asked = ["for-each-ref", "--format=%(objecttype) %(refname)", "--merged", head, TAGS]
    lines = call(root, asked).must_succeed().text.splitlines()
    return {line.partition(" ")[2].removeprefix(TAGS) for line in lines if line.startswith("tag ")}


def _is_here(root: Path, oid: str) -> bool:
    return call(root, ["cat-file", "-e", f"{oid}^{{commit}}"]).status == 0
