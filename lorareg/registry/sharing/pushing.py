"""Push: commit, bytes, git, Hub, in this order, so that nothing is announced before its bytes.

Every step looks at what is there already, so a push that was stopped anywhere is finished by
running it again. When others pushed meanwhile, their commits are united with ours and it goes on.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import NotFoundError
from lorareg.registry import card, destinations, lock, settings
from lorareg.registry.dvc.pointer import Pointer, pointer_path
from lorareg.registry.dvc.tracking import Candidate
from lorareg.registry.git import outgoing
from lorareg.registry.git.outgoing import OthersPushedError, Outgoing
from lorareg.registry.ids import RECIPE, AssetId
from lorareg.registry.manifest import Manifest
from lorareg.registry.sharing import announced, arrivals, audience
from lorareg.registry.sharing.meter import Meter, Silent, spoken
from lorareg.registry.sharing.receiving import Say
from lorareg.registry.workspace import Workspace

TOP_FILES = ("lorareg.yaml", ".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore")
TRIES = 30  # of announcing, while others push as well
LONGEST_WAIT = 2.0  # seconds between two tries; a random part of it


@dataclass(frozen=True)
class Pushed:
    """What a push did; all empty when everything was up already.

    Attributes:
        commit: that it made; None: nothing had changed.
        objects: how many were uploaded; files, and a listing for each folder.
        remote: where the history went; None: there is no git remote.
        size: bytes uploaded.
        commits: that were announced, ids.
        tags: that were announced.
        published: Hub repositories that were brought up to date.
    """

    commit: str | None
    objects: int
    remote: str | None
    size: int = 0
    commits: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    published: tuple[str, ...] = ()


def push(
    workspace: Workspace, assets: Sequence[AssetId], say: Say, meter: Meter | None = None
) -> Pushed:
    """Commit the assets' folders, upload their bytes, announce branch and releases, publish.

    Raises:
        IntegrityError: weights that are not the lock's, or another place for bytes than before;
            nothing was committed.
        LoraregError: an adapter that more people may see than one it descends from; or somebody
            who may not change one of them.
        NotFoundError: bytes that a commit or release names are nowhere.
        ExternalToolError: a remote said no; run the same push again.
    """
    from lorareg.registry.access import signatures

    meter = meter or Silent()
    check(workspace, assets)
    for asset in assets:
        card.refresh(workspace, asset)
    pointers = track_all(workspace, assets, meter)
    commit = signatures.commit(workspace, assets, message(assets), commit_paths(workspace, assets))
    say(f"committed {commit[:10]}" if commit else "nothing new to commit")
    remote = workspace.history.remote()
    if remote is None:
        moved = workspace.store.push(pointers, meter)
        say(f"uploaded {moved.objects} objects, {spoken(moved.size)}")
        say("no git remote: git remote add origin URL, then push again, to share the history")
        return Pushed(commit, moved.objects, None, moved.size)
    done = _announce(workspace, assets, pointers, say, meter)
    hub = _publish(workspace, assets, say)
    return Pushed(
        commit, done.objects, remote, done.size, _ids(done.what), done.what.tags, tuple(hub)
    )


def check(workspace: Workspace, assets: Sequence[AssetId]) -> None:
    """What stops a push before anything is written. Raises as ``push``."""
    settings.load(workspace.root)  # broken ones would stop everybody who gets them
    destinations.confirm(workspace)
    files = {asset: workspace.folder(asset).lock for asset in assets}
    locks = {asset: lock.load(file) for asset, file in files.items() if file.is_file()}
    arrivals.refuse_modified(workspace, locks)
    for asset, known in locks.items():
        audience.refuse_hidden(workspace, asset, known)


def track(workspace: Workspace, asset: AssetId) -> list[Pointer]:
    """Let DVC know the data and weights of one asset as they are now."""
    return track_all(workspace, [asset], Silent())


def track_all(workspace: Workspace, assets: Sequence[AssetId], meter: Meter) -> list[Pointer]:
    """Let DVC know the data and weights of assets as they are now."""
    candidates = candidates_of(workspace, assets)
    remotes = remotes_of(workspace, assets, candidates)
    return workspace.store.track_all(candidates, remotes, meter)


def candidates_of(
    workspace: Workspace, assets: Sequence[AssetId], *, remember: bool = True
) -> list[Candidate]:
    """The folders of weights and data that are on disk, each once."""
    weights = [workspace.folder(asset).weights for asset in assets]
    data = [path for each in _adapters(workspace, assets) for path in workspace.data(each)]
    paths = [path for path in weights if path.is_dir()] + [path for path in data if path.exists()]
    return workspace.store.look(list(dict.fromkeys(paths)), remember=remember)


def remotes_of(
    workspace: Workspace, assets: Sequence[AssetId], candidates: Sequence[Candidate]
) -> list[str | None]:
    """For each of these the remote of its asset's visibility."""
    owners = {workspace.folder(asset).weights: workspace.load_asset(asset) for asset in assets}
    users: dict[Path, list[Manifest]] = {}
    for manifest in _adapters(workspace, assets):
        for path in workspace.data(manifest):
            users.setdefault(path, []).append(manifest)
    return [
        audience.weights_remote(workspace, owners[each.path], each.known)
        if each.path in owners
        else audience.data_remote(workspace, users[each.path], each.path, each.known)
        for each in candidates
    ]


def commit_paths(workspace: Workspace, assets: Sequence[AssetId]) -> list[Path]:
    """Files that are committed with assets: their folders, the pointers of their data."""
    paths = [workspace.folder(asset).path for asset in assets]
    for manifest in _adapters(workspace, assets):
        for data in workspace.data(manifest):
            # A single file's record of redaction lies beside it; a folder holds its own.
            record = data.with_suffix(".redaction.json")
            paths += [pointer_path(data), data.parent / ".gitignore", record]
    paths += [workspace.root / name for name in TOP_FILES]
    return [path for path in dict.fromkeys(paths) if path.exists()]


def message(assets: Sequence[AssetId]) -> str:
    """Of the commit: a few names in its first line, many below it."""
    names = [str(asset) for asset in assets]
    if len(names) <= 3:
        return f"Update {', '.join(names)}"
    return f"Update {len(names)} assets\n\n" + "\n".join(names)


@dataclass(frozen=True)
class _Done:
    what: Outgoing
    objects: int
    size: int


def _announce(
    workspace: Workspace,
    assets: Sequence[AssetId],
    pointers: Sequence[Pointer],
    say: Say,
    meter: Meter,
) -> _Done:
    """Bytes, then branch and tags in one transaction; again when others were faster."""
    history, objects, size = workspace.history, 0, 0
    for turn in range(1, TRIES + 1):
        what = history.outgoing()
        outgoing.refuse_moved(moved_of(assets, what), what.remote)
        announced.refuse_vanished(workspace, what)
        counted = upload(workspace, what, pointers if turn == 1 else (), meter)
        objects, size = objects + counted[0], size + counted[1]
        if turn == 1:
            say(f"uploaded {objects} objects, {spoken(size)}")
        try:
            history.announce(what)
        except OthersPushedError:
            if turn == TRIES:
                raise
            say("others pushed meanwhile: their commits come first")
            history.pull()
            time.sleep(random.uniform(0, min(LONGEST_WAIT, 0.1 * 2**turn)))
            continue
        say("pushed the branch" + (f" and {len(what.tags)} tags" if what.tags else ""))
        break
    return _Done(what, objects, size)


def moved_of(assets: Iterable[AssetId], what: Outgoing) -> list[outgoing.MovedTag]:
    """Releases of these assets that mean something else at the remote."""
    names = {str(asset) for asset in assets}
    return [tag for tag in what.moved if tag.name.partition("@")[0] in names]


def upload(
    workspace: Workspace, what: Outgoing, pointers: Sequence[Pointer], meter: Meter
) -> tuple[int, int]:
    """Bring up what these pointers stand for, and what the commits to be announced name.

    Returns:
        Objects and bytes.
    """
    store = workspace.store
    moved = store.push(pointers, meter)
    objects, size = moved.objects, moved.size
    done = {(each.file, each.md5) for each in pointers}
    named = announced.pointers(workspace, what) if what.commits or what.tags else []
    for each in named:
        if (each.pointer.file, each.pointer.md5) in done:
            continue
        try:
            earlier = announced.push(workspace, each, meter)
        except NotFoundError as error:
            raise announced.refusal(each, error, what) from error
        objects, size = objects + earlier.objects, size + earlier.size
    return objects, size


def _publish(workspace: Workspace, assets: Sequence[AssetId], say: Say) -> list[str]:
    if not any(workspace.load_asset(asset).publish for asset in assets):
        return []
    from lorareg.registry.publishing.publish import publish_released

    return [done.repo for done in publish_released(workspace, assets, say)]


def _adapters(workspace: Workspace, assets: Sequence[AssetId]) -> list[Manifest]:
    return [workspace.load_manifest(asset) for asset in assets if asset.kind != RECIPE]


def _ids(what: Outgoing) -> tuple[str, ...]:
    return tuple(commit.id for commit in what.commits)
