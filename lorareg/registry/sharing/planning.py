"""What a push would do, found out without doing any of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorareg.registry import card
from lorareg.registry.dvc import pointer
from lorareg.registry.dvc.pointer import Pointer
from lorareg.registry.dvc.tracking import Candidate
from lorareg.registry.git import outgoing
from lorareg.registry.git.outgoing import Commit
from lorareg.registry.ids import AssetId
from lorareg.registry.sharing import announced, pushing
from lorareg.registry.workspace import Workspace


@dataclass(frozen=True)
class Upload:
    """Bytes for one remote.

    Attributes:
        objects, size: exact for a folder; else of all that would be offered to it, since only
            the remote's own answer tells what it has.
        is_exact: which of the two.
    """

    remote: str
    objects: int
    size: int
    is_exact: bool


@dataclass(frozen=True)
class Plan:
    """What a push would do.

    Attributes:
        files: that would be committed, relative to the registry's top.
        to: git remote; None: there is none.
        commits: made before, that would be announced too.
        tags: that would be announced.
        hub: Hub repositories that would be brought up to date, and how.
    """

    files: tuple[str, ...]
    uploads: tuple[Upload, ...]
    to: str | None
    commits: tuple[Commit, ...]
    tags: tuple[str, ...]
    hub: tuple[str, ...]


def of(workspace: Workspace, assets: Sequence[AssetId]) -> Plan:
    """Plan a push; nothing is written, here or anywhere. Raises as ``pushing.push``."""
    pushing.check(workspace, assets)
    candidates = pushing.candidates_of(workspace, assets, remember=False)
    remotes = pushing.remotes_of(workspace, assets, candidates)
    pairs = list(zip(candidates, remotes, strict=True))
    earlier: list[Pointer] = []
    commits: tuple[Commit, ...] = ()
    tags: tuple[str, ...] = ()
    to = workspace.history.remote()
    if to is not None and workspace.history.head() is not None:
        what = workspace.history.outgoing()
        outgoing.refuse_moved(pushing.moved_of(assets, what), what.remote)
        commits, tags = what.commits, what.tags
        due = {candidate.pointer(remote) for candidate, remote in pairs}
        named = announced.pointers(workspace, what) if commits or tags else []
        earlier = [each.pointer for each in named if each.pointer not in due]
    return Plan(
        tuple(_files(workspace, assets, pairs)),
        tuple(_uploads(workspace, pairs, earlier)),
        to,
        commits,
        tags,
        tuple(_hub(workspace, assets)),
    )


def _files(
    workspace: Workspace, assets: Sequence[AssetId], pairs: Sequence[tuple[Candidate, str | None]]
) -> list[str]:
    paths = pushing.commit_paths(workspace, assets)
    found = {path.as_posix() for path in workspace.history.changed(paths)}
    for candidate, remote in pairs:
        if candidate.known is None:
            found |= {_name(workspace, candidate.path.with_name(".gitignore"))}
        if candidate.known != candidate.pointer(remote):
            found |= {_name(workspace, pointer.pointer_path(candidate.path))}
        folder = _name(workspace, candidate.path) + "/"
        found = {name for name in found if not name.startswith(folder)}  # git will ignore it
    for asset in assets:
        due = card.refreshed(workspace, asset)
        file = workspace.folder(asset).card
        if due is not None and file.read_bytes() != due.encode():
            found |= {_name(workspace, file)}
    return sorted(found)


def _uploads(
    workspace: Workspace, pairs: Sequence[tuple[Candidate, str | None]], earlier: Sequence[Pointer]
) -> list[Upload]:
    wanted: dict[str, dict[str, int]] = {}
    services: set[str] = set()
    default = workspace.store.default_remote() or ""
    for candidate, remote in pairs:
        tracked = candidate.pointer(remote)
        group = wanted.setdefault(tracked.remote or default, {})
        group |= _objects(candidate)
        if workspace.store.remote_folder(tracked) is None:
            services.add(tracked.remote or default)
    for tracked in earlier:
        name = tracked.remote or default
        group = wanted.setdefault(name, {})
        if workspace.store.remote_folder(tracked) is None:
            services.add(name)
            group[tracked.md5] = tracked.size
        else:
            group |= workspace.store.missing(tracked)
    return [
        Upload(name, len(found), sum(found.values()), name not in services)
        for name, group in sorted(wanted.items())
        if (found := _lacking(workspace, name, group))
    ]


def _lacking(workspace: Workspace, remote: str, group: Mapping[str, int]) -> dict[str, int]:
    there = workspace.store.folder_of(remote)
    if there is None:
        return dict(group)
    return {
        md5: size
        for md5, size in group.items()
        if not (there.place(md5).is_file() and there.place(md5).stat().st_size == size)
    }


def _objects(candidate: Candidate) -> dict[str, int]:
    """md5 -> bytes of everything that a folder consists of."""
    found = {md5: candidate.files[name].stat().st_size for name, md5 in candidate.md5s.items()}
    if candidate.path.is_dir():
        found[pointer.listing_md5(candidate.listing)] = len(candidate.listing)
    return found


def _hub(workspace: Workspace, assets: Sequence[AssetId]) -> list[str]:
    if not any(workspace.load_asset(asset).publish for asset in assets):
        return []
    from lorareg.registry.publishing.publish import publish_released

    planned = publish_released(workspace, assets, lambda text: None, dry_run=True)
    return [f"{each.repo}: {', '.join(each.steps)}" for each in planned if each.steps]


def _name(workspace: Workspace, path: Path) -> str:
    return path.relative_to(workspace.root).as_posix()
