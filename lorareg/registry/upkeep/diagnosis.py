"""What is wrong with a registry, and the command that mends it; nothing is changed.

Each check is its own function and fails alone: a registry that is broken in one place is still
looked at in all others.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lorareg.errors import LoraregError
from lorareg.registry.access import policy, signing, uses
from lorareg.registry.dvc import config as dvcconfig
from lorareg.registry.finding import Finding
from lorareg.registry.git import unfinished
from lorareg.registry.releases import channels, tags
from lorareg.registry.upkeep import ailments
from lorareg.registry.upkeep.gc import quarantine
from lorareg.registry.workspace import Workspace

LOW_BYTES = 1_000_000_000  # a training run writes checkpoints of some hundred megabytes
DVC = ((3, 60), (4, 0))  # from, to before; its cache and its small files are read without it

Check = Callable[[Workspace], Iterator[Finding]]


def diagnose(workspace: Workspace) -> list[Finding]:
    """Every problem of a registry, each with its fix; what is soft does not break it."""
    if not unfinished.is_repository(workspace.root):
        fix = "clone the registry again; or, if it has no history to lose: lorareg init"
        return [Finding(False, "git", "there is no git repository, so no history", fix)]
    found: list[Finding] = []
    for check in CHECKS:
        try:
            found += check(workspace)
        except LoraregError as error:
            found.append(Finding(False, check.__name__.strip("_"), error.sentence, error.fix))
    return found


def _git_work(workspace: Workspace) -> Iterator[Finding]:
    for what, on, off in unfinished.begun(workspace.root):
        detail = f"{what} was begun and not ended"
        yield Finding(False, "git", detail, f"{on}; or give it up: {off}")
    if workspace.history.head() and workspace.history.branch() is None:
        yield Finding(
            False, "git branch", "HEAD is detached: new commits belong to no branch",
            "git switch -; or keep them: git switch -c NAME",
        )  # fmt: skip
    lock = unfinished.git_path(workspace.root, "index.lock")
    if lock.exists():
        yield Finding(
            False, "git lock", f"{lock.name} is there: a git command runs, or was killed",
            f"wait for it to end; if none runs: rm '{lock}'",
        )  # fmt: skip


def _git_identity(workspace: Workspace) -> Iterator[Finding]:
    yield Finding(True, "git identity", workspace.history.identity())


def _sharing(workspace: Workspace) -> Iterator[Finding]:
    count = unfinished.unpushed(workspace.root)
    if count:
        yield Finding(False, "commits", f"{count} are only here", "lorareg push", is_hard=False)
    alone = unfinished.unpushed_tags(workspace.root)
    if alone:
        detail = f"{len(alone)} are only here: {', '.join(alone[:3])}"
        yield Finding(False, "releases", detail, "lorareg push", is_hard=False)


def _ignored(workspace: Workspace) -> Iterator[Finding]:
    if not unfinished.is_ignored(workspace.root, ".lorareg/cache"):
        detail = ".lorareg/ is not ignored by git: caches and runs would be committed"
        yield Finding(False, ".gitignore", detail, "echo /.lorareg/ >> .gitignore")
    for one, other in unfinished.twins(workspace.root):
        detail = f"{one} and {other} are one file on macOS and Windows"
        yield Finding(False, "names", detail, f"git mv '{other}' ANOTHER_NAME")


def _dvc_version(_: Workspace) -> Iterator[Finding]:
    try:
        found = version("dvc")
    except PackageNotFoundError:
        return  # the machine's part says so
    numbers = tuple(int(part) for part in re.findall(r"\d+", found)[:2])
    if not DVC[0] <= numbers < DVC[1]:
        yield Finding(False, "DVC", f"{found} is not tried here", 'pip install "dvc>=3.60,<4"')


def _dvc_locks(workspace: Workspace) -> Iterator[Finding]:
    """Locks of DVC: the one by path outlives a killed process, the other dies with it."""
    file = workspace.root / ".dvc" / "tmp" / "rwlock"
    try:
        holders = set(map(int, re.findall(r'"pid": (\d+)', file.read_text("utf-8", "replace"))))
    except OSError:
        return
    dead = sorted(pid for pid in holders if not _is_alive(pid))
    for pid in sorted(holders - set(dead)):
        yield Finding(False, "DVC lock", f"process {pid} works with DVC", "wait", is_hard=False)
    if dead:
        detail = f"held by {', '.join(map(str, dead))}, which no longer run"
        yield Finding(False, "DVC lock", detail, f"rm '{file.relative_to(workspace.root)}'")


def _remotes(workspace: Workspace) -> Iterator[Finding]:
    config = dvcconfig.read(workspace.root / ".dvc")
    for visibility, name in workspace.settings.remotes.items():
        if name not in config.remotes:
            detail = f"{name}, for what is {visibility}, is not configured"
            yield Finding(False, "DVC remote", detail, f"dvc remote add {name} FOLDER_OR_URL")
    if not (workspace.root / ".dvc").is_dir():
        fix = "git checkout -- .dvc, or lorareg init . --remote FOLDER_OR_URL"
        yield Finding(False, "DVC", "there is no .dvc: nothing says where bytes go", fix)
    elif config.default_remote is None:
        detail = "there is no default one: bytes without a remote of their own go nowhere"
        yield Finding(False, "DVC remote", detail, "dvc remote add --default storage FOLDER_OR_URL")
    for name in config.remotes:
        objects = config.remote_objects(name)
        if objects and not objects.parents[1].is_dir():
            detail = f"{name}: there is no folder {objects.parents[1]}"
            fix = "mount it, if it was ever there; the first push makes it"
            yield Finding(False, "DVC remote", detail, fix, is_hard=False)


def _team(workspace: Workspace) -> Iterator[Finding]:
    if policy.load(workspace) is None:
        return
    signing.key(workspace.root)
    if policy.me(workspace) is None:
        detail = "no person of manifests/policy.yaml has your key or your mail"
        yield Finding(False, "policy", detail, "ask a maintainer to add your public key")


def _uses(workspace: Workspace) -> Iterator[Finding]:
    yield from (finding for finding in uses.check(workspace) if not finding.ok)


def _releases(workspace: Workspace) -> Iterator[Finding]:
    named = {tag.partition("@")[0] for tag in workspace.history.tags("*@v*")}
    for asset in workspace.assets():
        if str(asset) in named or workspace.folder(asset).releases.is_file():
            for each in tags.check(workspace, asset):
                if not each.ok:
                    yield Finding(
                        False, f"{asset} {each.what}", each.detail, each.fix, each.is_hard
                    )


def _channels(workspace: Workspace) -> Iterator[Finding]:
    released = set(workspace.history.tags("*@v*"))
    for asset in workspace.assets():
        file = workspace.folder(asset).channels
        try:
            found = channels.load(file, asset).table if file.is_file() else {}
        except LoraregError:
            continue  # ``ailments.files`` says so
        for name, channel in found.items():
            if f"{asset}@{channel.version}" not in released:
                detail = f"points to {channel.version}, which is no release here"
                fix = f"git fetch --tags; or lorareg rollback {asset} --channel {name}"
                yield Finding(False, f"{asset} {name}", detail, fix)


def _quarantine(workspace: Workspace) -> Iterator[Finding]:
    waiting = [batch for batch in quarantine(workspace).batches() if batch.waiting]
    if waiting:
        count = sum(len(batch.waiting) for batch in waiting)
        size = sum(batch.size for batch in waiting) / 1e6
        detail = f"{count} things of {size:,.1f} MB wait since {waiting[0].moved:%F}"
        fix = "lorareg gc --restore, or lorareg gc --purge --yes"
        yield Finding(True, "quarantine", detail, fix)


def _disk(workspace: Workspace) -> Iterator[Finding]:
    places = {workspace.root, *_folder(dvcconfig.read(workspace.root / ".dvc").objects)}
    for place in sorted(places):
        free = shutil.disk_usage(place).free
        if free < LOW_BYTES:
            detail = f"{free / 1e9:.1f} GB are free at {place}"
            yield Finding(False, "disk", detail, "lorareg gc shows what may go", is_hard=False)


def _folder(path: Path) -> list[Path]:
    """The nearest folder above that exists."""
    return [each for each in (path, *path.parents) if each.is_dir()][:1]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's
    return True


CHECKS: tuple[Check, ...] = (
    _git_work,
    _git_identity,
    _sharing,
    _ignored,
    _dvc_version,
    _dvc_locks,
    _remotes,
    _team,
    ailments.files,
    ailments.not_assets,
    ailments.bytes_of_pointers,
    _releases,
    _channels,
    _uses,
    _quarantine,
    _disk,
)
