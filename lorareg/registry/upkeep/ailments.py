"""What can be wrong with the files of an asset, and with the bytes that its pointers name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from lorareg.errors import LoraregError
from lorareg.registry import jsontext, yamlfile
from lorareg.registry.access import grants, revocation
from lorareg.registry.assetfolder import AssetFolder
from lorareg.registry.dvc import config as dvcconfig
from lorareg.registry.dvc import pointer
from lorareg.registry.dvc.objects import Objects
from lorareg.registry.dvc.pointer import Pointer
from lorareg.registry.files import read_own
from lorareg.registry.finding import Finding
from lorareg.registry.ids import RECIPE, SLUG
from lorareg.registry.releases import channels
from lorareg.registry.workspace import Workspace

CONFLICT = re.compile(r"^(<<<<<<< |>>>>>>> )", re.MULTILINE)
MAX_BYTES = 64_000_000


def files(workspace: Workspace) -> Iterator[Finding]:
    """Files that git merged badly, that cannot be read, or that belong together and do not."""
    for asset in workspace.assets():
        folder = workspace.folder(asset)
        broken = list(_unreadable(folder))
        yield from broken
        yield from _links(folder)
        if not broken:
            yield from _pairs(folder)
            yield from _rules(workspace, folder)


def not_assets(workspace: Workspace) -> Iterator[Finding]:
    """Folders in manifests/ that no command sees: without a manifest, or with a wrong name."""
    for folder in sorted(workspace.manifests.glob("*/*/")):
        name = folder.relative_to(workspace.root).as_posix()
        inside = {path.name for path in folder.iterdir()}
        if not (SLUG.fullmatch(folder.name) and SLUG.fullmatch(folder.parent.name)):
            detail = "no name of an asset, so no command sees it: a-z, 0-9, - and _ only"
            yield Finding(False, name, detail, f"git mv '{name}' manifests/KIND/NAME")
        elif "manifest.yaml" not in inside and inside & {"lock.json", "weights.dvc"}:
            detail = "has no manifest.yaml, so no command sees it"
            yield Finding(False, name, detail, f"git checkout -- {name}/manifest.yaml")


def bytes_of_pointers(workspace: Workspace) -> Iterator[Finding]:
    """Pointers whose bytes are neither in the cache nor on the remote, where that is a folder."""
    config = dvcconfig.read(workspace.root / ".dvc")
    cache = workspace.store.cache
    for file in _pointer_files(workspace):
        name = file.relative_to(workspace.root).as_posix()
        try:
            tracked = pointer.read(workspace.root, file)
        except LoraregError as error:
            if not (file.is_relative_to(workspace.manifests) and _is_told(file)):
                yield Finding(False, name, error.sentence, f"mend it, or: git checkout -- {name}")
            continue
        there = config.remote_objects(tracked.remote)
        if there is None or _has(cache, tracked) or _has(Objects(there), tracked):
            continue
        if tracked.path.exists() and pointer.state(tracked) == "unchanged":
            detail = "its bytes are on disk, but neither in the cache nor on the remote"
            yield Finding(False, name, detail, "lorareg push", is_hard=False)
        else:
            detail = f"bytes {tracked.md5} are neither in the cache nor on the remote"
            fix = "ask who has them to run lorareg push; or lorareg gc --restore"
            yield Finding(False, name, detail, fix)


def _unreadable(folder: AssetFolder) -> Iterator[Finding]:
    for path in sorted(folder.path.iterdir()):
        if path.suffix not in (".yaml", ".json", ".dvc") or not path.is_file():
            continue
        name = f"manifests/{folder.id}/{path.name}"
        try:
            text = read_own(path, max_bytes=MAX_BYTES)
            if CONFLICT.search(text):
                detail = "holds the marks of a merge that was not ended"
                fix = f"git checkout --ours -- {name}, or --theirs, or edit it; then git add {name}"
                yield Finding(False, name, detail, fix)
            elif path.suffix == ".json":
                jsontext.parse(text)
            elif path.suffix == ".yaml":  # a pointer is read with its bytes
                yamlfile.parse(text, path)
        except LoraregError as error:
            yield Finding(False, name, error.sentence, f"mend it, or: git checkout -- {name}")
        except ValueError as error:
            yield Finding(False, name, f"is not JSON: {error}", f"git checkout -- {name}")


def _links(folder: AssetFolder) -> Iterator[Finding]:
    is_ours = folder.weights.is_dir() and not folder.weights.is_symlink()
    inside = sorted(folder.weights.iterdir()) if is_ours else []
    for path in (folder.path, folder.weights, *inside):
        if path.is_symlink():
            name = f"manifests/{folder.id}/{path.relative_to(folder.path)}".removesuffix("/.")
            detail = f"is a link to {path.readlink()}, which nothing here follows"
            yield Finding(False, name, detail, f"rm {name}, then lorareg pull {folder.id}")


def _pairs(folder: AssetFolder) -> Iterator[Finding]:
    asset = folder.id
    name = f"manifests/{asset}"
    if folder.pointer.is_file() and not folder.lock.is_file():
        detail = "weights.dvc is there without a lock: nothing says what its bytes should be"
        yield Finding(False, name, detail, f"git checkout -- {name}/lock.json, or {_make(folder)}")
    if folder.lock.is_file() and not folder.pointer.is_file() and not folder.weights.is_dir():
        known = None
        with suppress(LoraregError, ValueError):  # a lock that is broken was named before
            known = jsontext.parse(read_own(folder.lock, max_bytes=MAX_BYTES))
        if isinstance(known, dict) and known.get("outputs"):
            detail = "the lock promises weights, but there is no weights.dvc to fetch them by"
            fix = f"git checkout -- {name}/weights.dvc, or {_make(folder)}"
            yield Finding(False, name, detail, fix)


def _rules(workspace: Workspace, folder: AssetFolder) -> Iterator[Finding]:
    """Who may use it, what it is served as, whether it is revoked: files that must be readable."""
    readers: dict[Path, Callable[[], object]] = {
        folder.grants: lambda: grants.load(workspace, folder.id),
        folder.revoked: lambda: revocation.load(workspace, folder.id),
        folder.channels: lambda: channels.load(folder.channels, folder.id),
    }
    for path, read in readers.items():
        try:
            if path.is_file():
                read()
        except LoraregError as error:
            name = f"manifests/{folder.id}/{path.name}"
            yield Finding(False, name, error.sentence, f"mend it, or: git checkout -- {name}")


def _make(folder: AssetFolder) -> str:
    verb = "compose upgrade" if folder.id.kind == RECIPE else "train"
    return f"lorareg {verb} {folder.id}"


def _pointer_files(workspace: Workspace) -> Iterator[Path]:
    for asset in workspace.assets():
        file = workspace.folder(asset).pointer
        if file.is_file():
            yield file
    data = workspace.root / "data"
    if data.is_dir():
        yield from sorted(path for path in data.rglob("*.dvc") if path.is_file())


def _is_told(file: Path) -> bool:
    """Whether ``files`` says already what is wrong with a pointer."""
    is_link = file.with_suffix("").is_symlink()
    return is_link or CONFLICT.search(file.read_text("utf-8", "replace")) is not None


def _has(store: Objects, tracked: Pointer) -> bool:
    try:
        listed = store.listing(tracked).values()
    except LoraregError:
        return False
    return not store.lacks([*listed, tracked.md5])
