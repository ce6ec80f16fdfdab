"""Whether a lock still follows from its manifest and data, as far as digests tell. No torch.

``lorareg status`` names a difference to the caption; here it is only found, before a release.
"""

from __future__ import annotations

from collections.abc import Iterator

from lorareg.errors import NotFoundError
from lorareg.registry import dataset, lineage, lock, versions
from lorareg.registry.bases import base
from lorareg.registry.ids import Ref
from lorareg.registry.lock import DatasetInput, ImportedLock, Lock, Member, RecipeLock, TrainedLock
from lorareg.registry.manifest import Manifest
from lorareg.registry.recipe import RecipeManifest, RecipePart
from lorareg.registry.releases import ledger, rules
from lorareg.registry.revisions import lock_at
from lorareg.registry.workspace import Workspace

SHAPING = ("method", "compression", "schedule")  # keys of a recipe that its lock keeps


def of_adapter(workspace: Workspace, manifest: Manifest, known: Lock) -> Iterator[str]:
    """Every input that is not what the lock says, one line each."""
    if isinstance(known, TrainedLock) and not manifest.origin:
        yield from _config(manifest, known)
        yield from _data(workspace, manifest, known)
        now, then = lineage.parent_input(workspace, manifest), known.inputs.parent
        if (now and now.tensors) != (then and then.tensors):
            yield f"parent: {then.ref if then else 'none'} -> {now.ref if now else 'none'}"
        if known.inputs.trainer != lock.TRAINER:
            yield f"trainer: version {known.inputs.trainer} -> {lock.TRAINER}"
    elif isinstance(known, ImportedLock) and manifest.origin:
        if known.inputs.origin.sha256 != manifest.origin.sha256:
            yield f"origin: {known.inputs.origin.file} -> {manifest.origin.file}"
    else:
        yield "manifest and lock differ in whether it was imported or trained"
    yield from _base(workspace, manifest, known)


def of_recipe(workspace: Workspace, manifest: RecipeManifest, known: RecipeLock) -> Iterator[str]:
    """Every member or key of the method that is not what the lock says, one line each."""
    then = {_name(member): member for member in known.members}
    told = []
    for part in manifest.parts:
        asset = str(workspace.find_asset(Ref.parse(part.ref), any_version=True))
        told.append(asset)
        member = then.get(asset)
        if member is None:
            yield f"parts: {asset} is not in the lock"
        elif why := _differs(part, member):
            yield f"parts: {asset} has {why}"
    for gone in then.keys() - set(told):
        yield f"parts: {gone} is in the lock only"
    shape = manifest.model_dump(mode="json", exclude_defaults=True)
    for key in SHAPING:
        if (shape.get(key) or None) != (known.method.get(key) or None):
            yield f"{key}: {rules.said(known.method.get(key))} -> {rules.said(shape.get(key))}"


def of_member(workspace: Workspace, member: Member) -> str | None:
    """Why the very weights of a recipe's member cannot be had any more; None if they can."""
    ref = Ref.parse(member.ref)
    asset = workspace.find_asset(ref, any_version=True)
    if ref.version:
        commit = ledger.commit_of(workspace, asset, ref.version)
        found = lock_at(workspace, asset, commit)
    else:
        here = workspace.load_lock(asset)
        if here is None:
            return f"{asset} is not trained"
        found = here
    promised = found.outputs.get(member.file)
    if promised is None or promised.tensors != member.tensors:
        return f"{member.ref} is no longer {member.tensors[:26]}"
    return None


def _config(manifest: Manifest, known: TrainedLock) -> Iterator[str]:
    config = known.inputs.config
    if config.digest != manifest.config_digest():
        for key, old, new in rules.differences(config.resolved, manifest.config()):
            yield f"{key}: {rules.said(old)} -> {rules.said(new)}"


def _data(workspace: Workspace, manifest: Manifest, known: TrainedLock) -> Iterator[str]:
    before = {data.path: data for data in known.inputs.data}
    for path, folder in zip(manifest.data_paths, workspace.data(manifest), strict=True):
        then: DatasetInput | None = before.get(path)
        if then is None and path == manifest.dataset.path:
            then = known.inputs.dataset  # it was moved
        if then is None:
            continue  # class pictures from elsewhere show in the configuration
        if folder.exists():
            if dataset.scan(folder, workspace.digests).digest != then.digest:
                yield f"{path}: other files than the lock says"
        elif (md5 := workspace.data_md5(folder)) is not None and md5 != then.md5:
            yield f"{path}: DVC names other bytes than the lock"


def _base(workspace: Workspace, manifest: Manifest, known: Lock) -> Iterator[str]:
    before, now = known.inputs.base, base.public_name(manifest.base)
    if (before.model, before.revision) != (now, manifest.base.revision):
        yield f"base: {before.model} -> {now}"
        return
    try:
        found = base.resolve(
            manifest.base, manifest.task, workspace.root, workspace.digests, fetch=False
        )
    except NotFoundError:
        return  # it is not on this machine: the lock pins it
    if found.digest != before.digest:
        yield f"base: {before.model} has other weights now"


def _differs(part: RecipePart, member: Member) -> str | None:
    wanted, version = Ref.parse(part.ref), member.ref.partition("@")[2]
    if wanted.version and wanted.version != version:
        return f"version {wanted.version}, the lock {version or 'none'}"
    if wanted.range and not (version and versions.within(version, wanted.range)):
        return f"range {wanted.range}, the lock {version or 'no release'}"
    if (part.weight, dict(part.blocks)) != (member.weight, dict(member.blocks)):
        return "another weight than in the lock"
    return "other windows than in the lock" if part.windows != member.windows else None


def _name(member: Member) -> str:
    return member.ref.partition("@")[0]
