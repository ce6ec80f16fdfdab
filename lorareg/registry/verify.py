"""Recomputing what a lock promises: a list of findings, never a bare yes or no."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from lorareg.errors import LoraregError
from lorareg.registry import attestation, dataset, digest, lineage, lock
from lorareg.registry.access import authority, revocation
from lorareg.registry.assetfolder import AssetFolder
from lorareg.registry.digest import DigestCache
from lorareg.registry.dvc import pointer
from lorareg.registry.dvc.pointer import pointer_path
from lorareg.registry.finding import Finding
from lorareg.registry.ids import AssetId
from lorareg.registry.lock import ImportedLock, Lock, Member, RecipeLock, TrainedLock
from lorareg.registry.manifest import Manifest
from lorareg.registry.releases import tags
from lorareg.registry.revisions import released_lock
from lorareg.registry.tensors import tensor_digest
from lorareg.registry.workspace import Workspace


def verify(workspace: Workspace, asset: AssetId, *, quick: bool = False) -> list[Finding]:
    """Check an asset's lock against its bytes.

    Args:
        workspace: the registry.
        asset: an adapter or a recipe.
        quick: trust digests remembered by (inode, size, mtime), and leave tensor digests out.
    """
    found = [*authority.check(workspace, asset), *_content(workspace, asset, quick)]
    found += tags.check(workspace, asset)
    return [*found, *_revoked(workspace, asset)]


def _content(workspace: Workspace, asset: AssetId, quick: bool) -> list[Finding]:
    folder = workspace.folder(asset)
    if not folder.lock.is_file():
        return [Finding(False, "lock.json", "there is none: lorareg train makes it")]
    try:
        found = lock.load(folder.lock)
    except LoraregError as error:
        return [Finding(False, "lock.json", str(error))]
    findings = [Finding(found.asset == str(asset), "lock.json", f"asset {found.asset}")]
    findings += _outputs(folder, found, quick, workspace)
    findings += _pointers(workspace, folder, found)
    if isinstance(found, RecipeLock):
        return [*findings, *_members(workspace, found), *_audience(workspace, asset, found)]
    if isinstance(found, TrainedLock):
        findings += _inputs(workspace, folder, found)
        findings += attestation.findings(workspace, asset)
    if isinstance(found, ImportedLock):
        findings.append(_fingerprint(found.fingerprint, found.inputs.fingerprint()))
    return [*findings, *_terms(workspace, asset, found)]


def _outputs(
    folder: AssetFolder, found: Lock | RecipeLock, quick: bool, workspace: Workspace
) -> Iterator[Finding]:
    for name, promised in sorted(found.outputs.items()):
        path = folder.weights / name
        what = f"weights/{name}"
        if not path.is_file():
            yield Finding(False, what, "not here: lorareg pull fetches it")
            continue
        remembered = workspace.digests if quick else DigestCache(None)
        now = remembered.digests({name: path})[name]
        if now != promised.sha256:
            yield Finding(False, what, f"is {now}, the lock says {promised.sha256}")
        elif promised.tensors and not quick and tensor_digest(path) != promised.tensors:
            yield Finding(False, what, f"its tensors are not {promised.tensors}")
        else:
            yield Finding(True, what, promised.sha256)
    if folder.weights.is_dir():
        strangers = {path.name for path in folder.weights.iterdir()} - found.outputs.keys()
        for name in sorted(strangers - {".gitignore"}):
            yield Finding(False, f"weights/{name}", "is not in the lock: remove it")


def _pointers(
    workspace: Workspace, folder: AssetFolder, found: Lock | RecipeLock
) -> Iterator[Finding]:
    files = [folder.pointer] if found.outputs else []
    if isinstance(found, TrainedLock):
        files += [pointer_path(workspace.root / data.path) for data in found.inputs.data]
    for file in files:
        if not file.is_file():
            continue  # lorareg push makes it
        name = file.relative_to(workspace.root).as_posix()
        try:
            yield Finding(True, name, f"md5 {pointer.read(workspace.root, file).md5}")
        except LoraregError as error:
            yield Finding(False, name, f"{error.what}: restore it with git checkout -- {name}")


def _revoked(workspace: Workspace, asset: AssetId) -> Iterator[Finding]:
    try:
        found = revocation.revoked(workspace, asset)
    except LoraregError as error:
        yield Finding(False, "revoked.json", error.sentence, error.fix)
        return
    if found:
        yield Finding(False, "revoked.json", found.sentence, found.error.fix)


def _fingerprint(promised: str, made: str) -> Finding:
    same = promised == made
    return Finding(same, "fingerprint", promised if same else "does not follow from inputs")


def _inputs(workspace: Workspace, folder: AssetFolder, found: TrainedLock) -> Iterator[Finding]:
    yield _fingerprint(found.fingerprint, found.inputs.fingerprint())
    resolved = digest.of_json(found.inputs.config.resolved)
    yield Finding(resolved == found.inputs.config.digest, "config", found.inputs.config.digest)
    if folder.dataset.is_file():
        try:
            lock.load_index(folder.dataset, found.inputs)
            yield Finding(True, "dataset.json", found.inputs.dataset.digest)
        except LoraregError as error:
            yield Finding(False, "dataset.json", str(error))
    for data in found.inputs.data:
        path = workspace.root / data.path
        if path.exists():
            now = dataset.scan(path, workspace.digests).digest
            ok = now == data.digest
            detail = now if ok else "differs from the lock: lorareg status names the change"
            yield Finding(ok, data.path, detail)


def _terms(workspace: Workspace, asset: AssetId, found: Lock) -> Iterator[Finding]:
    try:
        manifest = workspace.load_manifest(asset)
        hidden = lineage.hidden_ancestors(workspace, manifest, found)
    except LoraregError as error:
        yield Finding(False, "manifest.yaml", str(error))
        return
    if hidden:
        detail = f"{manifest.visibility}, but it descends from {', '.join(hidden)}"
        yield Finding(False, "visibility", detail)
    yield Finding(True, "manifest.yaml", manifest.schema_)
    for what, date in _dates(manifest):
        valid = date >= datetime.date.today()
        yield Finding(valid, what, f"{'until' if valid else 'expired on'} {date}")


def _dates(manifest: Manifest) -> Iterator[tuple[str, datetime.date]]:
    if manifest.scope.expires:
        yield "scope", manifest.scope.expires
    if manifest.consent and manifest.consent.expires:
        yield f"consent of {manifest.consent.subject}", manifest.consent.expires


def _members(workspace: Workspace, found: RecipeLock) -> Iterator[Finding]:
    for member in found.members:
        ref, _, version = member.ref.partition("@")
        path = workspace.folder(AssetId.parse(ref)).weights / member.file
        if version:
            yield _released(workspace, member)
        elif not path.is_file():
            yield Finding(False, member.ref, "its weights are not here: lorareg pull fetches them")
        elif tensor_digest(path) == member.tensors:
            yield Finding(True, member.ref, member.tensors)
        else:
            yield Finding(False, member.ref, f"is no longer {member.tensors}")


def _audience(workspace: Workspace, asset: AssetId, found: RecipeLock) -> Iterator[Finding]:
    try:
        hidden = lineage.hidden_members(workspace, asset, found)
    except LoraregError as error:
        yield Finding(False, "manifest.yaml", str(error))
        return
    if hidden:
        yield Finding(False, "visibility", f"its merged file holds {', '.join(hidden)}")


def _released(workspace: Workspace, member: Member) -> Finding:
    """A release that is not checked out: its lock, in the history, promises the same tensors."""
    name, _, version = member.ref.partition("@")
    try:
        promised = released_lock(workspace, AssetId.parse(name), version).outputs.get(member.file)
    except LoraregError as error:
        return Finding(False, member.ref, error.sentence)
    if promised and promised.tensors == member.tensors:
        return Finding(True, member.ref, member.tensors)
    return Finding(False, member.ref, f"is no longer {member.tensors}")


def load_any(workspace: Workspace, asset: AssetId) -> Lock | RecipeLock | None:
    """The lock of an adapter or recipe, or None."""
    path = workspace.folder(asset).lock
    return lock.load(path) if path.is_file() else None
