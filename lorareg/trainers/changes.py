"""What differs between a lock and the registry as it is now, named to the caption. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lorareg.errors import LoraregError, NotFoundError
from lorareg.registry import dataset, lineage, lock
from lorareg.registry.bases import base
from lorareg.registry.dataset import Listing, difference
from lorareg.registry.ids import RECIPE, AssetId
from lorareg.registry.lock import (
    DatasetInput,
    ImportedLock,
    Lock,
    ParentInput,
    RecipeLock,
    TrainedLock,
)
from lorareg.registry.manifest import ImageManifest, Manifest, TextManifest
from lorareg.registry.recipe import RecipeManifest
from lorareg.registry.workspace import Workspace
from lorareg.trainers.data import class_pictures
from lorareg.trainers.data.records import record_digests
from lorareg.weights import members, recipes

State = Literal["untrained", "up-to-date", "stale", "modified", "missing", "invalid"]


@dataclass(frozen=True)
class Status:
    """How an adapter or a recipe stands.

    Attributes:
        state: untrained (no lock), missing (weights not pulled), modified (weights are not the
            lock's), stale (an input changed since), invalid (its files cannot be read),
            up-to-date.
        reasons: what is missing, modified or changed, one line each.
    """

    asset: AssetId
    state: State
    reasons: tuple[str, ...] = ()


def fingerprint_now(
    workspace: Workspace,
    manifest: ImageManifest | TextManifest,
    file: ParentInput | None = None,
) -> str:
    """Fingerprint that a run would have if it started now; ``file`` is a parent from outside."""
    parent = file or lineage.parent_input(workspace, manifest)
    found = base.resolve(manifest.base, manifest.task, workspace.root, workspace.digests)
    listing = dataset.scan(workspace.dataset(manifest), workspace.digests)
    prior = class_pictures.scan(workspace, manifest)
    return lock.fingerprint(
        config=manifest.config_digest(),
        dataset=listing.digest,
        base=found.digest,
        parent=parent.tensors if parent else None,
        prior=prior.digest if prior else None,
    )


def status(workspace: Workspace, asset: AssetId) -> Status:
    """Compare an asset with its lock; one whose files are broken has a state too."""
    try:
        return _status(workspace, asset)
    except LoraregError as error:
        return Status(asset, "invalid", (" ".join(f"{error.what} {error.why}".split()),))


def _status(workspace: Workspace, asset: AssetId) -> Status:
    wanted = workspace.load_asset(asset)
    known = _lock(workspace, asset)
    if known is None:
        makes = "compose" if asset.kind == RECIPE else "train"
        return Status(asset, "untrained", (f"there is no lock: lorareg {makes} makes one",))
    folder = workspace.folder(asset)
    missing = [name for name in known.outputs if not (folder.weights / name).is_file()]
    if missing:
        return Status(asset, "missing", tuple(f"weights/{n}: not here" for n in sorted(missing)))
    if not workspace.weights_match(folder, known):
        return Status(asset, "modified", ("weights/: bytes do not match the lock",))
    if isinstance(wanted, ImageManifest | TextManifest) and isinstance(known, Lock):
        changed = changed_inputs(workspace, wanted, known)
    else:
        changed = _changed_members(workspace, wanted, known)
    return Status(asset, "stale" if changed else "up-to-date", tuple(changed))


def _lock(workspace: Workspace, asset: AssetId) -> Lock | RecipeLock | None:
    if asset.kind != RECIPE:
        return workspace.load_lock(asset)
    path = workspace.folder(asset).lock
    return lock.load(path) if path.is_file() else None


def _changed_members(
    workspace: Workspace, wanted: Manifest | RecipeManifest, known: Lock | RecipeLock
) -> list[str]:
    """Members and methods of a recipe that are not those of its lock."""
    if not (isinstance(wanted, RecipeManifest) and isinstance(known, RecipeLock)):
        return ["the lock is not that of a recipe"]
    found = recipes.changes(known, members.outline(workspace, wanted), wanted)
    return [f"{change.member}: {change.before} -> {change.after}" for change in found]


def changed_inputs(
    workspace: Workspace, manifest: ImageManifest | TextManifest, known: Lock
) -> list[str]:
    """Every input that is not what the lock says, one line each; empty if all are the same."""
    if not isinstance(known, TrainedLock) or manifest.origin:
        return [*_origin_changes(manifest, known), *_base_changes(workspace, manifest, known)]
    return [
        *config_changes(known.inputs.config.resolved, manifest.config()),
        *_dataset_changes(workspace, manifest, known),
        *_prior_changes(workspace, manifest, known),
        *_base_changes(workspace, manifest, known),
        *_parent_changes(workspace, manifest, known),
        *_trainer_changes(known),
    ]


def config_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Lines such as ``lora.rank: 16 -> 8``."""
    old, new = _flat(before), _flat(after)
    return [
        f"{key}: {old.get(key)!r} -> {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def _dataset_changes(
    workspace: Workspace, manifest: ImageManifest | TextManifest, known: TrainedLock
) -> list[str]:
    def named(listing: Listing) -> list[str]:
        return _named_changes(workspace, manifest, listing, known)

    folder = workspace.dataset(manifest)
    lines = _folder_changes(workspace, folder, known.inputs.dataset, named)
    return [f"{manifest.dataset.path}: {line}" for line in lines]


def _prior_changes(
    workspace: Workspace, manifest: ImageManifest | TextManifest, known: TrainedLock
) -> list[str]:
    """Changes of the class pictures; another folder, or none, shows in the configuration."""
    before = known.inputs.prior
    folders = dict(zip(manifest.data_paths, workspace.data(manifest), strict=True))
    if before is None or before.path not in folders:
        return []

    def named(listing: Listing) -> list[str]:
        path = workspace.folder(manifest.id).dataset
        if not path.is_file():
            return []
        return difference(lock.load_index(path, known.inputs).prior, listing.files).sentences()

    lines = _folder_changes(workspace, folders[before.path], before, named)
    return [f"prior: {before.path}: {line}" for line in lines]


def _folder_changes(
    workspace: Workspace,
    folder: Path,
    before: DatasetInput,
    named: Callable[[Listing], list[str]],
) -> list[str]:
    if not folder.exists():
        md5 = workspace.data_md5(folder)
        if md5 is None or md5 == before.md5:
            return []  # its bytes are not pulled, but git says that they are the same ones
        return ["DVC names other bytes than the lock"]
    listing = dataset.scan(folder, workspace.digests)
    return [] if listing.digest == before.digest else named(listing) or ["digest differs"]


def _named_changes(
    workspace: Workspace,
    manifest: ImageManifest | TextManifest,
    listing: Listing,
    known: TrainedLock,
) -> list[str]:
    """Name files and captions, if the index of the trained dataset is there."""
    path = workspace.folder(manifest.id).dataset
    if not path.is_file():
        return []
    index = lock.load_index(path, known.inputs)
    files = difference(index.files, listing.files).sentences()
    try:
        now = record_digests(workspace.dataset(manifest), manifest, listing)
    except LoraregError as error:
        return [*files, error.what]
    records = difference(index.records, now)
    captions = [f"caption of {name} changed" for name in records.changed]
    return [*captions, *files]


def _origin_changes(manifest: ImageManifest | TextManifest, known: Lock) -> list[str]:
    """The weights came of one file: a manifest that names another one, or data, says otherwise."""
    before = known.inputs.origin if isinstance(known, ImportedLock) else None
    now = manifest.origin
    if before is None or now is None:
        return ["origin: manifest and lock differ in whether this was imported or trained"]
    if now.sha256 != before.sha256:
        return [f"origin: {before.file} {before.sha256} -> {now.file} {now.sha256}"]
    return []


def _base_changes(
    workspace: Workspace, manifest: ImageManifest | TextManifest, known: Lock
) -> list[str]:
    before = known.inputs.base
    now_called = base.public_name(manifest.base)
    if (before.model, before.revision) != (now_called, manifest.base.revision):
        return [f"base: {before.model} -> {now_called}"]
    try:
        now = base.resolve(
            manifest.base, manifest.task, workspace.root, workspace.digests, fetch=False
        )
    except NotFoundError as error:
        pinned = before.revision or before.model.startswith("builtin:")
        return [] if pinned else [f"base: {error.what}"]
    return [] if now.digest == before.digest else [f"base: {before.model} has other weights now"]


def _parent_changes(
    workspace: Workspace, manifest: ImageManifest | TextManifest, known: TrainedLock
) -> list[str]:
    before = known.inputs.parent
    try:
        now = lineage.parent_input(workspace, manifest)
    except NotFoundError as error:
        return [f"parent: {error.what}"]
    if (before and before.tensors) == (now and now.tensors):
        return []  # under whatever name
    if before and now and before.ref == now.ref:
        return [f"parent: {now.ref} has other weights now"]
    return [f"parent: {before.ref if before else 'none'} -> {now.ref if now else 'none'}"]


def _trainer_changes(known: TrainedLock) -> list[str]:
    if known.inputs.trainer == lock.TRAINER:
        return []
    return [f"trainer: version {known.inputs.trainer} -> {lock.TRAINER}"]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
