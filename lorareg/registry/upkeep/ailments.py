"""What can be wrong with the files of an asset, and with the bytes that its pointers name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lorareg.errors import LoraregError
from lorareg.registry import dvcconfig, jsontext, pointer, yamlfile
from lorareg.registry.assetfolder import AssetFolder
from lorareg.registry.files import read_own
from lorareg.registry.finding import Finding
from lorareg.registry.ids import RECIPE
from lorareg.registry.objects import Objects
from lorareg.registry.pointer import Pointer
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


def bytes_of_pointers(workspace: Workspace) -> Iterator[Finding]:
    """Pointers whose bytes are neither in the cache nor on the remote, where that is a folder."""
    config = dvcconfig.read(workspace.root / ".dvc")
    cache = workspace.store.cache
    for file in _pointer_files(workspace):
        try:
            tracked = pointer.read(workspace.root, file)
        except LoraregError:
            continue  # ``files`` says so
        there = config.remote_objects(tracked.remote)
        if there is None or _has(cache, tracked) or _has(Objects(there), tracked):
            continue
        name = file.relative_to(workspace.root).as_posix()
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
            else:
                yamlfile.parse(text, path)
        except LoraregError as error:
            yield Finding(False, name, error.sentence, f"mend it, or: git checkout -- {name}")
        except ValueError as error:
            yield Finding(False, name, f"is not JSON: {error}", f"git checkout -- {name}")


def _links(folder: AssetFolder) -> Iterator[Finding]:
    inside = sorted(folder.weights.iterdir()) if folder.weights.is_dir() else []
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


def _has(store: Objects, tracked: Pointer) -> bool:
    try:
        listed = store.listing(tracked).values()
    except LoraregError:
        return False
    return not store.lacks([*listed, tracked.md5])
