"""What others pushed, brought together with what is here: all of it, or nothing.

Commits of both sides are united in a checkout of their own, and only the result is moved to: a
kill in the middle leaves the registry as it was, and uncommitted work elsewhere is no obstacle.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lorareg.errors import ExternalToolError, IntegrityError, LoraregError, listed
from lorareg.registry.git import half, outgoing, worktree
from lorareg.registry.git.command import NO_COMMANDS_IN_URLS, call
from lorareg.registry.git.outgoing import TAGS, MovedTag

How = Literal["nothing", "fast-forward", "rebase", "merge"]
OWN = re.compile(r"\.lorareg(?=/|$)|\.dvc$|\.dvc/(cache|tmp|config\.local)(?=/|$)", re.IGNORECASE)
KNOWN_PERSON = ("-c", "user.useConfigOnly=true")  # no commits by root@localhost
# dvc install makes hooks that would fetch data into the checkout where commits are united
NO_HOOKS = ("-c", f"core.hooksPath={os.devnull}")


@dataclass(frozen=True)
class Update:
    """What a pull did.

    Attributes:
        before, after: the commits before and after it; None: there was none.
        moved: tags that mean something else at the remote; they stayed as they are here.
    """

    before: str | None
    after: str | None
    how: How
    moved: tuple[MovedTag, ...] = ()


def update(root: Path, remote: str, branch: str) -> Update:
    """Fetch and unite; the public face is ``History.pull``."""
    moved = _fetch(root, remote)
    before, theirs = _commit(root, "HEAD"), f"refs/remotes/{remote}/{branch}"
    if _commit(root, theirs) is None:
        return Update(before, before, "nothing", moved)  # nobody pushed this branch yet
    _refuse_smuggled(root, theirs)
    if before is None or _is_ancestor(root, "HEAD", theirs):
        _fast_forward(root, theirs)
        after = _commit(root, "HEAD")
        return Update(before, after, "nothing" if after == before else "fast-forward", moved)
    if _is_ancestor(root, theirs, "HEAD"):
        return Update(before, before, "nothing", moved)
    how = _unite(root, before, theirs)
    return Update(before, _commit(root, "HEAD"), how, moved)


def _fetch(root: Path, remote: str) -> tuple[MovedTag, ...]:
    """Get all branches and the tags that are new; a tag that is here is never overwritten."""
    there = outgoing.refs(root, remote)
    moved = outgoing.moved_tags(root, there)
    here = outgoing.local_tags(root)
    names = [
        name for name in there if name.startswith(TAGS) and name.removeprefix(TAGS) not in here
    ]
    branches = f"+refs/heads/*:refs/remotes/{remote}/*"
    wanted = [branches, *(f"{name}:{name}" for name in names)]
    call(
        root, [*NO_COMMANDS_IN_URLS, "fetch", "--quiet", "--no-tags", remote, *wanted]
    ).must_succeed()
    return moved


def _refuse_smuggled(root: Path, theirs: str) -> None:
    """Stop before files of a commit replace what is this machine's own: git spares no ignored file.

    Raises:
        IntegrityError: it names them.
    """
    top = call(root, ["ls-tree", "--name-only", "-z", theirs]).must_succeed().text.split("\0")
    # on some disks .LoraReg is the same folder
    tops = [name for name in top if name.lower() in (".dvc", ".lorareg")]
    listing = ["ls-tree", "-r", "--name-only", "-z", theirs, "--", *tops]
    names = call(root, listing).must_succeed().text.split("\0") if tops else []
    found = {name: match[0] for name in names if (match := OWN.match(name))}
    if found:
        paths = " ".join(dict.fromkeys(found.values()))
        raise IntegrityError(
            "the remote's commits bring files that are each machine's own",
            why="caches and local settings are believed; nobody shares them\n" + listed([*found]),
            fix=f"who pushed them takes them out: git rm -r --cached {paths}, commit and push",
        )


def _fast_forward(root: Path, theirs: str) -> None:
    if _commit(root, "HEAD") is not None:
        half.take_back(root, theirs)
    done = call(root, ["merge", "--quiet", "--ff-only", theirs])
    if done.status != 0 and done.named:
        raise ExternalToolError(
            "the remote's commits change files that you have changed or made",
            why="\n" + listed(done.named),
            fix="commit them or put them aside (git stash), then run this again",
        )
    done.must_succeed()


def _unite(root: Path, before: str, theirs: str) -> How:
    """Rebase, or merge where a local commit carries a tag, or leave everything as it was."""
    how: How = "merge" if _tags(root, "HEAD") - _tags(root, theirs) else "rebase"
    options = ["--no-edit"] if how == "merge" else []
    with worktree.worktree(root, before, None) as tree:
        command = [*KNOWN_PERSON, *NO_HOOKS, how, *options, "--quiet", theirs]
        done = call(tree, command, patience=0)
        if done.status != 0:
            unmerged = call(tree, ["diff", "--name-only", "--diff-filter=U", "-z"]).text
            if not unmerged:
                done.must_succeed()
            _refuse_conflict(how, theirs, unmerged.strip("\0").split("\0"))
        united = call(tree, ["rev-parse", "HEAD"]).must_succeed().line
    _move_to(root, united)
    return how


def _move_to(root: Path, united: str) -> None:
    """Take the result over; files with uncommitted changes stay, or it is refused before."""
    half.take_back(root, united)
    entries = call(root, ["status", "--porcelain", "-z", "--no-renames", "--untracked-files=all"])
    changed = {entry[3:] for entry in entries.must_succeed().text.split("\0") if entry}
    arriving = call(root, ["diff", "--name-only", "--no-renames", "-z", "HEAD", united])
    in_the_way = sorted(changed & set(arriving.must_succeed().text.split("\0")))
    if in_the_way:
        raise LoraregError(
            "the remote's commits change files that you have changed and not committed",
            why="\n" + listed(in_the_way),
            fix="commit them or put them aside (git stash), then run this again",
        )
    # a file that was only touched or copied is no change: reset --keep does not look at its bytes
    call(root, ["update-index", "-q", "--refresh"])
    call(root, ["reset", "--quiet", "--keep", united]).must_succeed()


def _refuse_conflict(how: How, theirs: str, files: list[str]) -> None:
    """Name the files, and for an asset how to keep one side whole."""
    remote = theirs.removeprefix("refs/remotes/")
    assets = sorted({"/".join(file.split("/")[:3]) for file in files if file.count("/") > 2})
    yours, teammates = ("--theirs", "--ours") if how == "rebase" else ("--ours", "--theirs")
    keep = (
        f"keep one side of {assets[0]} whole (git checkout {yours} -- {assets[0]} is yours, "
        f"git checkout {teammates} -- {assets[0]} your teammate's), git add {assets[0]}, "
        if assets
        else "choose the lines, git add them, "
    )
    raise ExternalToolError(
        "your commits and the remote's change the same lines",
        why="\n" + listed(files),
        fix=f"git {how} {remote}, {keep}git {how} --continue; nothing was changed so far",
    )


def _commit(root: Path, revision: str) -> str | None:
    found = call(root, ["rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"])
    return found.line if found.status == 0 else None


def _is_ancestor(root: Path, older: str, newer: str) -> bool:
    return call(root, ["merge-base", "--is-ancestor", older, newer]).status == 0


def _tags(root: Path, revision: str) -> set[str]:
    return set(call(root, ["tag", "--merged", revision]).must_succeed().text.split())
