"""Training an adapter again from what git and DVC hold, and comparing with its lock."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lorareg.errors import NotFoundError
from lorareg.registry import lineage, lock, sharing
from lorareg.registry.ids import AssetId, Ref
from lorareg.registry.lock import Lock, TrainedLock
from lorareg.registry.manifest import ImageManifest, TextManifest
from lorareg.registry.pointer import pointer_path
from lorareg.registry.runfacts import Environment
from lorareg.registry.workspace import Workspace
from lorareg.trainers.adapters import parent_files
from lorareg.trainers.changes import changed_inputs
from lorareg.trainers.core.watching import Watcher
from lorareg.weights import algebra
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.formats import diffusers, peft

CLOSE = 1e-2
"""Relative difference of the deltas that other kernels or machines may make."""

Verdict = Literal["identical", "identical tensors", "close", "differs"]


@dataclass(frozen=True)
class Reproduction:
    """What came of training again.

    Attributes:
        verdict: "identical" files, "identical tensors" in other files, "close" deltas, "differs".
        reasons: the differing inputs, or else what differs between the two environments.
        difference: |new - old| / |old| of the deltas; None where inputs differ and nothing ran.
        outputs: file -> (digest in the lock, digest now).
    """

    asset: AssetId
    verdict: Verdict
    reasons: tuple[str, ...]
    difference: float | None
    outputs: dict[str, tuple[str, str]]


def reproduce(workspace: Workspace, ref: Ref, watcher: Watcher) -> Reproduction:
    """Train an adapter again in a clean checkout and compare it with its lock.

    With a version, its tag is checked out. Without one, the current commit is, and uncommitted
    changes of this adapter's manifest and data are taken along, since they are what is asked about.

    Raises:
        NotFoundError: it was never trained, or its data cannot be found.
    """
    if ref.channel or ref.range:
        raise NotFoundError(
            f"{ref}: a channel has no tag to check out", fix=f"write a version: {ref.name}@v1.0.0"
        )
    asset = workspace.find_asset(ref, any_version=True)
    if not ref.version and (here := workspace.load_lock(asset)):
        _trained(here)
    revision = f"{asset}@{ref.version}" if ref.version else "HEAD"
    if workspace.history.head() is None:
        raise NotFoundError(
            f"{asset} is not in git yet",
            why="a checkout is trained, and this registry has no commit",
            fix=f"lorareg push {asset}; or git add --all && git commit",
        )
    with workspace.history.worktree(revision) as top:
        clean = Workspace(top)
        clean.store.borrow(workspace.store)
        known = clean.load_lock(asset)
        if known is None:
            raise NotFoundError(
                f"{asset} has no lock at {revision}",
                why="nothing was trained and committed there",
                fix=f"lorareg train {asset}, then lorareg push {asset}",
            )
        known = _trained(known)
        _refuse_lost_file(known)
        if not ref.version:
            _take_changes_along(workspace, clean, asset, watcher)
        _fetch_data(clean, asset)
        changed = changed_inputs(clean, clean.load_manifest(asset), known)
        if changed:
            return Reproduction(asset, "differs", tuple(changed), None, {})
        _fetch_parent(clean, asset)
        with _scratch() as folder:
            return _train_again(clean, asset, known, folder, watcher)


def _take_changes_along(
    workspace: Workspace, clean: Workspace, asset: AssetId, watcher: Watcher
) -> None:
    manifest = workspace.load_manifest(asset)
    if workspace.history.is_dirty([workspace.folder(asset).manifest]):
        shutil.copyfile(workspace.folder(asset).manifest, clean.folder(asset).manifest)
        watcher.note("with your uncommitted manifest.yaml")
    folders = zip(manifest.data_paths, workspace.data(manifest), clean.data(manifest), strict=True)
    for name, data, target in folders:
        if data.exists() and _is_modified(workspace, data):
            if target.is_dir():  # of bytes that are in git itself
                shutil.rmtree(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if data.is_dir() else shutil.copyfile
            copy(data, target)
            watcher.note(f"with your uncommitted changes in {name}")


def _is_modified(workspace: Workspace, data: Path) -> bool:
    """Whether DVC does not know these bytes."""
    pointer = pointer_path(data)
    return not pointer.is_file() or (
        workspace.store.status(workspace.store.pointer(pointer)) == "modified"
    )


def _fetch_data(clean: Workspace, asset: AssetId) -> None:
    missing = [data for data in clean.data(clean.load_manifest(asset)) if not data.exists()]
    lost = [data.name for data in missing if not pointer_path(data).is_file()]
    if lost:
        raise NotFoundError(
            f"the data of {asset} are not in git",
            why=f"there is no {' and no '.join(f'{name}.dvc' for name in lost)}",
            fix=f"lorareg push {asset} where the data are",
        )
    if missing:
        sharing.fetch_data(clean, asset)


def _trained(known: Lock) -> TrainedLock:
    if isinstance(known, TrainedLock):
        return known
    raise NotFoundError(
        f"{known.asset} was imported: there is no run that could be made again",
        why="another program made its weights, and its lock knows the file and not the training",
        fix=f"compare the bytes instead: lorareg verify {known.asset}",
    )


def _refuse_lost_file(known: TrainedLock) -> None:
    parent = known.inputs.parent
    if parent and parent.file:
        raise NotFoundError(
            f"{known.asset} started from the file {parent.ref}, which the registry does not hold",
            why="its weights went in, and only the file has them",
            fix="keep such an adapter in the registry, name it as parent in the manifest, and "
            f"train again: lorareg train {known.asset} --from KIND/NAME",
        )


def _fetch_parent(clean: Workspace, asset: AssetId) -> None:
    """The clean checkout has the parent's lock; a release is fetched when it is read."""
    manifest = clean.load_manifest(asset)
    parent = lineage.parent_of(clean, manifest)
    if parent and not parent.tag:
        parent_files.fetch(clean, parent, manifest)


def _train_again(
    clean: Workspace, asset: AssetId, known: TrainedLock, folder: Path, watcher: Watcher
) -> Reproduction:
    from lorareg.trainers.exclusive import stop_on_signals
    from lorareg.trainers.execute import Options, execute
    from lorareg.trainers.prepare import prepare
    from lorareg.trainers.publish import write_weights

    manifest = clean.load_manifest(asset)
    prepared = prepare(clean, manifest, watcher.stage)
    environment = known.environment
    options = Options(
        precision=environment.precision,
        threads=environment.threads,
        kernels=environment.kernels,
        rungs=environment.rungs,
    )
    with stop_on_signals() as stop:
        made = execute(clean, prepared, options, folder / "run", watcher, stop)
    weights = folder / "weights"
    write_weights(weights, manifest, made.adapter, prepared.inputs.fingerprint())
    now = {path.name: lock.output(path) for path in sorted(weights.iterdir())}
    outputs = {
        name: (promised.sha256, now[name].sha256) for name, promised in known.outputs.items()
    }
    differences = _environment_changes(environment, made.environment)
    if all(before == after for before, after in outputs.values()):
        return Reproduction(asset, "identical", tuple(differences), 0.0, outputs)
    if all(now[name].tensors == promised.tensors for name, promised in known.outputs.items()):
        return Reproduction(asset, "identical tensors", tuple(differences), 0.0, outputs)
    gap = _distance(clean, asset, manifest, made.adapter)
    verdict: Verdict = "close" if gap is not None and gap < CLOSE else "differs"
    return Reproduction(asset, verdict, tuple(differences), gap, outputs)


def _distance(
    clean: Workspace,
    asset: AssetId,
    manifest: ImageManifest | TextManifest,
    adapter: LoraAdapter,
) -> float | None:
    """Relative difference to the locked weights, if they can be had."""
    try:
        sharing.pull(clean, [asset], lambda text: None)
    except NotFoundError:
        return None
    folder = clean.folder(asset).weights
    image = isinstance(manifest, ImageManifest)
    before = diffusers.read(folder / diffusers.FILE) if image else peft.read(folder)
    return algebra.relative_difference(adapter, before)


def _environment_changes(before: Environment, after: Environment) -> list[str]:
    keys = "python", "platform", "device", "precision", "kernels", "threads", "processes"
    lines = [
        f"{key}: {old} -> {new}"
        for key in keys
        if (old := getattr(before, key)) != (new := getattr(after, key))
    ]
    names = sorted(before.packages.keys() | after.packages.keys())
    lines += [
        f"{name}: {before.packages.get(name)} -> {after.packages.get(name)}"
        for name in names
        if before.packages.get(name) != after.packages.get(name)
    ]
    return lines


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lorareg-") as folder:
        yield Path(folder)
