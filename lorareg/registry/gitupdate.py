"""What others pushed, brought together with what is here: all of it, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lorareg.errors import ExternalToolError, LoraregError, listed
from lorareg.registry.gitcommand import NO_COMMANDS_IN_URLS, call

How = Literal["nothing", "fast-forward", "rebase", "merge"]
KNOWN_PERSON = ("-c", "user.useConfigOnly=true")  # no commits by root@localhost


@dataclass(frozen=True)
class Update:
    """What a pull did: the commits before and after it (None: there was none), and how."""

    before: str | None
    after: str | None
    how: How


def update(root: Path, remote: str, branch: str) -> Update:
    """Fetch and unite; the public face is ``History.pull``."""
    call(root, [*NO_COMMANDS_IN_URLS, "fetch", "--quiet", remote]).must_succeed()
    before, theirs = _commit(root, "HEAD"), f"refs/remotes/{remote}/{branch}"
    if _commit(root, theirs) is None:
        return Update(before, before, "nothing")  # nobody pushed this branch yet
    if before is None or _is_ancestor(root, "HEAD", theirs):
        _fast_forward(root, theirs)
        after = _commit(root, "HEAD")
        return Update(before, after, "nothing" if after == before else "fast-forward")
    if _is_ancestor(root, theirs, "HEAD"):
        return Update(before, before, "nothing")
    how = _unite(root, theirs)
    return Update(before, _commit(root, "HEAD"), how)


def _fast_forward(root: Path, theirs: str) -> None:
    done = call(root, ["merge", "--quiet", "--ff-only", theirs])
    if done.status != 0 and done.named:
        raise ExternalToolError(
            "the remote's commits change files that you have changed or made",
            why="\n" + listed(done.named),
            fix="commit them or put them aside (git stash), then run this again",
        )
    done.must_succeed()


def _unite(root: Path, theirs: str) -> How:
    """Rebase, or merge where a local commit carries a tag, or leave everything as it was."""
    entries = call(root, ["status", "--porcelain", "-z", "--no-renames", "--untracked-files=no"])
    uncommitted = [entry[3:] for entry in entries.must_succeed().text.split("\0") if entry]
    if uncommitted:
        raise LoraregError(
            "the remote has new commits, and so have you, beside uncommitted changes",
            why="\n" + listed(uncommitted),
            fix="commit them or put them aside (git stash), then run this again",
        )
    how: How = "merge" if _tags(root, "HEAD") - _tags(root, theirs) else "rebase"
    options = ["--no-edit"] if how == "merge" else []
    done = call(root, [*KNOWN_PERSON, how, *options, "--quiet", theirs], patience=0)
    if done.status == 0:
        return how
    unmerged = call(root, ["diff", "--name-only", "--diff-filter=U", "-z"]).text
    call(root, [how, "--abort"])
    if not unmerged:
        done.must_succeed()
    raise ExternalToolError(
        "your commits and the remote's change the same lines",
        why="\n" + listed(unmerged.strip("\0").split("\0")),
        fix=f"git {how} {theirs.removeprefix('refs/remotes/')}, choose the lines, git add them, "
        f"git {how} --continue; nothing was changed so far",
    )


def _commit(root: Path, revision: str) -> str | None:
    found = call(root, ["rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"])
    return found.line if found.status == 0 else None


def _is_ancestor(root: Path, older: str, newer: str) -> bool:
    return call(root, ["merge-base", "--is-ancestor", older, newer]).status == 0


def _tags(root: Path, revision: str) -> set[str]:
    return set(call(root, ["tag", "--merged", revision]).must_succeed().text.split())
