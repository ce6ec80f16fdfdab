"""Training an adapter again from what git and DVC hold, and comparing with its lock."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lorareg.errors import NotFoundError
from lorareg.registry import lineage, lock, versions
from lorareg.registry.access import permission
from lorareg.registry.attestation import Verdict
from lorareg.registry.differences import environment_changes
from lorareg.registry.dvc.pointer import pointer_path
from lorareg.registry.ids import AssetId, Ref
from lorareg.registry.lock import Lock, TrainedLock
from lorareg.registry.manifest import ImageManifest, TextManifest
from lorareg.registry.releases import ledger
from lorareg.registry.sharing import receiving
from lorareg.registry.workspace import Workspace
from lorareg.trainers.adapters import parent_files
from lorareg.trainers.changes import changed_inputs
from lorareg.trainers.core.watching import Watcher
from lorareg.trainers.reproduction import Reproduction
from lorareg.weights import algebra
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.formats import diffusers, peft

CLOSE = 1e-2
"""Relative difference of the deltas that other kernels or machines may make."""


def reproduce(
    workspace: Workspace, ref: Ref, watcher: Watcher, *, as_committed: bool = False
) -> Reproduction:
    """Train an adapter again in a clean checkout and compare it with its lock.

    Of a release its commit is checked out, of a channel that of the release it points to now.
    Without either, the current commit is, and uncommitted changes of this adapter's manifest and
    data are taken along, since they are what is asked about; not so with ``as_committed``: what is
    attested is a commit.

    Raises:
        NotFoundError: it was never trained, or its data cannot be found.
        LoraregError: it is revoked, or not for who works here.
    """
    asset = workspace.find_asset(ref, any_version=True)
    version = versions.version_of(workspace, asset, ref)
    permission.require(workspace, asset, "train", version=version)
    if not version and (here := workspace.load_lock(asset)):
        _trained(here)
    revision = ledger.commit_of(workspace, asset, version) if version else "HEAD"
    if workspace.history.head() is None:
        raise NotFoundError(
            f"{asset} is not in git yet",
            why="a checkout is trained, and this registry has no commit",
            fix=f"lorareg push {asset}; or git add --all && git commit",
        )
    with workspace.history.worktree(revision) as top:
        clean = Workspace(top)
        clean.store.borrow(workspace.store)
        known = _locked_in(clean, asset, revision)
        if not (version or as_committed):
            _take_changes_along(workspace, clean, asset, watcher)
        found = _compared(clean, asset, known, watcher)
        return replace(found, commit=clean.history.head() or "", version=version)


def _locked_in(clean: Workspace, asset: AssetId, revision: str) -> TrainedLock:
    found = clean.load_lock(asset)
    if found is None:
        raise NotFoundError(
            f"{asset} has no lock at {revision}",
            why="nothing was trained and committed there",
            fix=f"lorareg train {asset}, then lorareg push {asset}",
        )
    known = _trained(found)
    _refuse_lost_file(known)
    return known


def _compared(
    clean: Workspace, asset: AssetId, known: TrainedLock, watcher: Watcher
) -> Reproduction:
    """The inputs first: where they differ, training would answer another question."""
    _fetch_data(clean, asset)
    changed = changed_inputs(clean, clean.load_manifest(asset), known)
    if changed:
        return Reproduction(asset, "differs", tuple(changed), None, {}, known)
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
        receiving.fetch_data(clean, asset)


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
    gap: float | None = 0.0
    verdict: Verdict = "identical"
    if any(before != after for before, after in outputs.values()):
        verdict = "identical tensors"
        if any(now[name].tensors != promised.tensors for name, promised in known.outputs.items()):
            gap = _distance(clean, asset, manifest, made.adapter)
            verdict = "close" if gap is not None and gap < CLOSE else "differs"
    reasons = [
        f"{change.key}: {change.before} -> {change.after}"
        for change in environment_changes(environment, made.environment)
    ]
    reasons += [] if gap is not None else ["the locked weights cannot be had: how far is not known"]
    return Reproduction(asset, verdict, tuple(reasons), gap, outputs, known, made.environment)


def _distance(
    clean: Workspace,
    asset: AssetId,
    manifest: ImageManifest | TextManifest,
    adapter: LoraAdapter,
) -> float | None:
    """Relative difference to the locked weights, if they can be had."""
    try:
        receiving.pull(clean, [asset], lambda text: None)
    except NotFoundError:
        return None
    folder = clean.folder(asset).weights
    image = isinstance(manifest, ImageManifest)
    before = diffusers.read(folder / diffusers.FILE) if image else peft.read(folder)
    return algebra.relative_difference(adapter, before)


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lorareg-") as folder:
        yield Path(folder)
