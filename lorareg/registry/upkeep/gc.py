"""What nobody can ask for any more: found first, and moved into quarantine when that is wanted.

DVC's own gc looks at one project and deletes at once; a remote shared by two registries lost the
other's bytes that way (dvc issues 2325 and 7610). Here everything that any commit git reaches
names is kept, young things are kept, a remote is looked at only by name, and nothing is deleted.
"""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import LoraregError
from lorareg.registry.dvc import config as dvcconfig
from lorareg.registry.dvc import locks
from lorareg.registry.dvc.objects import OBJECT, Objects
from lorareg.registry.git import blobs, reachable
from lorareg.registry.upkeep import reach
from lorareg.registry.upkeep.quarantine import Batch, Quarantine, size_of
from lorareg.registry.upkeep.reach import Reached
from lorareg.registry.workspace import Workspace

HOUR = 3600.0
YOUNG_SECONDS = HOUR  # what changed since may belong to a command that still runs
YOUNG_ON_REMOTE = 14 * 24 * HOUR  # others push bytes before they push the commit that names them
PATIENCE = 60.0  # seconds to wait for other commands


@dataclass(frozen=True)
class Waste:
    """One thing that nobody can ask for.

    Attributes:
        what: "cache", "release", "run", "leftover" or "remote".
        size: bytes.
    """

    path: Path
    what: str
    size: int


@dataclass(frozen=True)
class Plan:
    """What would be moved.

    Attributes:
        waste: by path.
        kept: objects that are needed, or too young to tell.
        notes: what was left alone, and why.
    """

    quarantine: Quarantine
    waste: tuple[Waste, ...]
    kept: int
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(each.size for each in self.waste)


@dataclass(frozen=True)
class Purged:
    """What a purge did.

    Attributes:
        back: objects that a branch, tag or stash has named since they were moved.
        things: number of what is gone for good.
        size: of it, in bytes.
    """

    back: tuple[Path, ...]
    things: int
    size: int


def quarantine(workspace: Workspace, remote: str | None = None) -> Quarantine:
    """Where what is moved waits.

    Raises:
        LoraregError: no such remote, or one that is no folder.
    """
    if remote is None:
        return Quarantine(workspace.scratch / "quarantine", workspace.root)
    top = _remote(workspace, remote).folder.parents[1]
    return Quarantine(top / ".lorareg-quarantine", top)


def plan(workspace: Workspace, remote: str | None = None, now: float | None = None) -> Plan:
    """Look for what nobody can ask for; nothing is changed.

    Args:
        workspace: the registry.
        remote: look at this DVC remote instead of at this disk's own copies.
        now: seconds since 1970, by which things are young; default is the clock.

    Raises:
        LoraregError: the history here is not whole; a remote that is no folder, or of whose
            listings some cannot be read; with a remote, commits that were never fetched.
    """
    if reachable.is_shallow(workspace.root):
        raise LoraregError(
            "gc needs the whole history",
            why="this clone is shallow: bytes that older commits name would look unneeded",
            fix="git fetch --unshallow",
        )
    if remote is not None:
        _remote(workspace, remote)
        reachable.require_fetched(workspace.root)
    needed = reach.reached(workspace, _stores(workspace))
    now = time.time() if now is None else now
    if remote is None:
        return _of_disk(workspace, needed, now - YOUNG_SECONDS)
    return _of_remote(workspace, remote, needed, now - YOUNG_ON_REMOTE)


def collect(
    workspace: Workspace, remote: str | None = None, now: float | None = None
) -> tuple[Plan, Batch | None]:
    """Move what nobody can ask for into quarantine, while no other command writes.

    Returns:
        What was found, and the batch it went into; None if there was nothing.
    """
    with workspace.history.alone(), locks.held(workspace.root, PATIENCE):
        found = plan(workspace, remote, now)
        if not found.waste:
            return found, None
        return found, found.quarantine.take([each.path for each in found.waste])


def purge(workspace: Workspace, remote: str | None, older_than: datetime.timedelta) -> Purged:
    """Delete what has waited so long, for good, and put back what somebody asks for again."""
    with workspace.history.alone(), locks.held(workspace.root, PATIENCE):
        place = quarantine(workspace, remote)
        store = workspace.store.cache if remote is None else _remote(workspace, remote)
        back: list[Path] = []
        # again, since a listing that is back names files
        while found := place.put_back(_asked_again(workspace, place, store)):
            back += found
        old = place.older(older_than)
        things, size = sum(len(batch.waiting) for batch in old), sum(batch.size for batch in old)
        place.delete(old)
        return Purged(tuple(back), things, size)


def _asked_again(workspace: Workspace, place: Quarantine, store: Objects) -> set[Path]:
    """Old places of objects in quarantine that are needed now."""
    waiting = {place.top / name for batch in place.batches() for name in batch.waiting}
    needed = reach.reached(workspace, _stores(workspace)).md5s if waiting else set()
    return waiting.intersection(map(store.place, needed))


def _of_disk(workspace: Workspace, needed: Reached, since: float) -> Plan:
    cache = workspace.store.cache
    waste: list[Waste] = []
    notes: list[str] = []
    kept = 0
    if cache.folder.resolve().is_relative_to(workspace.root.resolve()):
        waste, kept = _objects(cache, needed, "cache", since)
    else:
        notes.append(f"the cache {cache.folder} may be shared with others: left alone")
    waste += _releases(workspace, needed, since)
    waste += _runs(workspace, since)
    waste += _leftovers(workspace, since)
    ordered = sorted(waste, key=lambda each: each.path)
    return Plan(quarantine(workspace), tuple(ordered), kept, tuple(notes))


def _of_remote(workspace: Workspace, remote: str, needed: Reached, since: float) -> Plan:
    there = _remote(workspace, remote)
    if needed.unread:
        raise LoraregError(
            f"{remote} is left alone: what {len(needed.unread)} folders of the history hold is "
            "not known",
            why="their listings are neither in the cache nor on a remote that is a folder: "
            + ", ".join(sorted(needed.unread)[:3]),
            fix="dvc fetch --all-commits, then run this again",
        )
    waste, kept = _objects(there, needed, "remote", since)
    note = (
        f"another registry may keep bytes on {remote}: only this one's history was looked at; "
        "bytes younger than 14 days stay, since others push them before their commits"
    )
    return Plan(quarantine(workspace, remote), tuple(waste), kept, (note,))


def _objects(store: Objects, needed: Reached, what: str, since: float) -> tuple[list[Waste], int]:
    """Objects that nobody names, and how many stay."""
    found: list[Waste] = []
    kept = 0
    for path in _entries(store.folder):
        name = path.relative_to(store.folder).as_posix()
        is_named = OBJECT.fullmatch(name) and name.replace("/", "") in needed.md5s
        if is_named or _changed(path) > since:
            kept += 1
        else:
            found.append(Waste(path, what, size_of(path)))
    return found, kept


def _entries(folder: Path) -> Iterator[Path]:
    """Everything in the two-letter folders: objects, and what killed commands left there."""
    if folder.is_dir():
        for prefix in sorted(folder.iterdir()):
            if len(prefix.name) == 2 and prefix.is_dir() and not prefix.is_symlink():
                yield from sorted(prefix.iterdir())


def _releases(workspace: Workspace, needed: Reached, since: float) -> Iterator[Waste]:
    """Weights kept of releases that no lock of the history has."""
    for folder in _children(workspace.cache / "releases"):
        if folder.name not in needed.fingerprints and _is_old(folder, since):
            yield Waste(folder, "release", size_of(folder))


def _runs(workspace: Workspace, since: float) -> Iterator[Waste]:
    """Folders of runs of assets that are neither on disk nor in a branch, tag or stash."""
    candidates = [
        folder
        for kind in _children(workspace.scratch / "runs")
        for folder in _children(kind)
        if not (workspace.manifests / kind.name / folder.name / "manifest.yaml").exists()
    ]
    refs = reachable.states(workspace.root) if candidates else []
    for folder in candidates:
        name = f"manifests/{folder.parent.name}/{folder.name}/manifest.yaml"
        if not blobs.read(workspace.root, [f"{ref}:{name}" for ref in refs]) and _is_old(
            folder, since
        ):
            yield Waste(folder, "run", size_of(folder))


def _leftovers(workspace: Workspace, since: float) -> Iterator[Waste]:
    """Temporary files of commands that were killed."""
    gone = {"quarantine", "releases"}
    for top in (workspace.manifests, workspace.scratch):
        for parent, folders, files in os.walk(top):
            folders[:] = [name for name in folders if name not in gone]
            for name in files:
                path = Path(parent, name)
                if name.startswith(".") and name.endswith(".tmp") and _is_old(path, since):
                    yield Waste(path, "leftover", size_of(path))


def _stores(workspace: Workspace) -> list[Objects]:
    config = dvcconfig.read(workspace.root / ".dvc")
    folders = [config.remote_objects(name) for name in config.remotes]
    return [workspace.store.cache, *(Objects(folder) for folder in folders if folder)]


def _remote(workspace: Workspace, remote: str) -> Objects:
    config = dvcconfig.read(workspace.root / ".dvc")
    if remote not in config.remotes:
        raise LoraregError(
            f"there is no DVC remote {remote!r}",
            why=f"known: {', '.join(sorted(config.remotes)) or 'none'}",
            fix="dvc remote list",
        )
    folder = config.remote_objects(remote)
    if folder is None:
        raise LoraregError(
            f"gc does not touch {remote}, which is {config.remotes[remote]}",
            why="a move into quarantine is one rename in a folder, but a copy and a delete there, "
            "which a kill or another client may come between",
            fix="let the storage expire old versions of objects by its own rules",
        )
    return Objects(folder)


def _children(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(each for each in folder.iterdir() if each.is_dir() and not each.is_symlink())


def _is_old(path: Path, since: float) -> bool:
    files: Iterable[Path] = [path, *path.rglob("*")] if path.is_dir() else [path]
    return max(map(_changed, files)) <= since


def _changed(path: Path) -> float:
    """When it was last written or moved; a rename keeps the mtime and sets the ctime."""
    stat = path.lstat()
    return max(stat.st_mtime, stat.st_ctime)
