"""Pointers that commits and tags bring with them: their bytes have to be up before these are.

A branch push announces every local commit, not only the newest: an earlier one may have a pointer
that no later one has, and a release may be on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import ExternalToolError, InvalidFileError, NotFoundError
from lorareg.registry.dvc import pointer
from lorareg.registry.dvc.pointer import Pointer
from lorareg.registry.dvc.store import Store
from lorareg.registry.dvc.transfer import Moved
from lorareg.registry.git import blobs as gitblobs
from lorareg.registry.git.command import call
from lorareg.registry.git.outgoing import Outgoing
from lorareg.registry.sharing.meter import Meter
from lorareg.registry.workspace import Workspace


@dataclass(frozen=True)
class Announced:
    """A pointer of a commit that the remote lacks.

    Attributes:
        commit: the newest one that brings it.
    """

    commit: str
    pointer: Pointer


def pointers(workspace: Workspace, what: Outgoing) -> list[Announced]:
    """Every pointer that is new, or different, in the commits and releases to be announced.

    Raises:
        InvalidFileError: a commit has a pointer that cannot be followed.
    """
    tips = [what.head, *(f"refs/tags/{name}" for name in what.tags)]
    walk = ["log", "-m", "--root", "--raw", "--no-renames", "--no-abbrev", "-z"]
    walk += ["--diff-filter=AMT", "--format=%x01%H", *tips, *(f"^{oid}" for oid in what.known)]
    answer = call(workspace.root, [*walk, "--", "*.dvc"]).must_succeed()
    found: dict[tuple[str, str], str] = {}
    commit, fields = "", iter(answer.text.split("\0"))
    for field in fields:
        _, mark, rest = field.rpartition("\x01")
        if mark:
            commit, _, field = rest.partition("\n")
            commit = commit[:40]
        if field.lstrip("\n").startswith(":"):
            found.setdefault((next(fields), field.split(" ")[3]), commit)
    return _read(workspace, found)


def _read(workspace: Workspace, found: dict[tuple[str, str], str]) -> list[Announced]:
    blobs = gitblobs.read(workspace.root, [oid for _, oid in found])
    announced = []
    for (name, oid), commit in found.items():
        if Path(name).name in (".dvc", "") or oid not in blobs:
            continue
        file = workspace.root / name
        try:
            text = blobs[oid].decode("utf-8", "replace")
            announced.append(Announced(commit, pointer.parse(workspace.root, file, text)))
        except InvalidFileError as error:
            raise InvalidFileError(
                f"commit {commit[:10]}: {error.what}",
                why=error.why,
                fix=error.fix or "a branch that announces it would mislead whoever pulls",
            ) from error
    return announced


def push(workspace: Workspace, each: Announced, meter: Meter) -> Moved:
    """Upload the bytes of one; DVC itself has to be shown the commit that names them.

    Raises:
        NotFoundError: they are neither here nor there.
        ExternalToolError: the remote said no.
    """
    store, file = workspace.store, each.pointer.file
    if store.remote_folder(each.pointer) or (
        file.is_file() and store.pointer(file) == each.pointer
    ):
        return store.push([each.pointer], meter)
    with workspace.history.worktree(each.commit) as top:
        there = Store(top)
        there.borrow(store)
        return there.push([there.pointer(top / file.relative_to(workspace.root))], meter)


def refuse_vanished(workspace: Workspace, what: Outgoing) -> None:
    """Refuse to begin a folder remote anew where the one that others were promised is away.

    A disk that is not mounted would get what is new, and hide it when the disk comes back.

    Raises:
        ExternalToolError: it names the folder.
    """
    store = workspace.store
    tops = {
        name: there.folder.parents[1]
        for name in store.remotes()
        if (there := store.folder_of(name)) is not None
    }
    away = {name: top for name, top in tops.items() if not top.exists()}
    if not away:
        return
    for head in what.known:
        listed = call(workspace.root, ["ls-tree", "-r", "-z", head]).must_succeed().text
        lines = [line.partition("\t") for line in listed.split("\0") if line.endswith(".dvc")]
        found = {(name, fields.split()[2]): head for fields, _, name in lines}
        for each in _read(workspace, found):
            remote = each.pointer.remote or store.default_remote() or ""
            if remote in away:
                raise ExternalToolError(
                    f"the DVC remote {remote!r} is not there",
                    why=f"there is no folder {away[remote]}, and it has bytes that were announced",
                    fix=f"mount it, or correct its address: dvc remote modify {remote} url FOLDER; "
                    f"where its bytes are lost: mkdir -p '{away[remote]}'",
                )


def refusal(lost: Announced, error: NotFoundError, what: Outgoing) -> NotFoundError:
    """Bytes of an earlier commit that are nowhere: how to leave that commit out."""
    if lost.commit == what.head:
        return error
    return NotFoundError(
        f"commit {lost.commit[:10]} names bytes that are nowhere: {error.what}",
        why=error.why,
        fix="put them back, or make one commit of yours out of all that were not pushed: "
        f"git reset --soft {what.remote}/{what.branch}, then lorareg push",
    )
