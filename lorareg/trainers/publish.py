"""What a finished run leaves in the registry: weights, card, pictures and, last, the lock."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from lorareg.registry import card, lock
from lorareg.registry.assetfolder import AssetFolder
from lorareg.registry.bases.base import public_name
from lorareg.registry.files import sync_folder, write_atomically
from lorareg.registry.lock import TrainedLock
from lorareg.registry.manifest import ImageManifest, TextManifest
from lorareg.registry.workspace import Workspace
from lorareg.trainers.data.caption_files import on_disk
from lorareg.trainers.data.check import sheet
from lorareg.trainers.execute import Made
from lorareg.trainers.prepare import Prepared
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.formats import diffusers, peft


def publish(
    workspace: Workspace, folder: AssetFolder, prepared: Prepared, made: Made, run: Path
) -> TrainedLock:
    """Move the weights into place, track them, write the card, and the lock at the very end."""
    manifest, parent = prepared.manifest, prepared.parent
    fingerprint = prepared.inputs.fingerprint()
    fresh = run / "weights"
    shutil.rmtree(fresh, ignore_errors=True)
    write_weights(fresh, manifest, made.adapter, fingerprint)
    replace_folder(fresh, folder.weights)
    remote = workspace.settings.remotes.get(manifest.visibility)
    workspace.store.track(folder.weights, remote=remote)
    preview = run / "preview.png"
    if preview.is_file():
        shutil.copyfile(preview, folder.preview)
    files = sorted(path for path in folder.weights.iterdir() if path.is_file())
    written = TrainedLock(
        asset=str(manifest.id),
        task=manifest.task,
        inputs=prepared.inputs,
        fingerprint=fingerprint,
        environment=made.environment,
        outputs={path.name: lock.output(path) for path in files},
        result=made.result,
        parents=(parent.member,) if parent and parent.member else (),
    )
    _draw_dataset(workspace, folder, prepared)
    card.write(folder, manifest, written, prepared.report.statistics)
    index = {
        "files": dict(prepared.listing.files),
        "records": dict(prepared.records),
        "statistics": dict(prepared.report.statistics),
    }
    if prepared.prior:
        index["prior"] = dict(prepared.prior.listing.files)
    lock.save(folder.dataset, index)
    lock.save(folder.lock, written)
    return written


def _draw_dataset(workspace: Workspace, folder: AssetFolder, prepared: Prepared) -> None:
    """A contact sheet of the pictures, unless only some may see them: git shows it to all."""
    names = [name for name in prepared.listing.images if name in prepared.records]
    folder.sheet.unlink(missing_ok=True)
    if names and prepared.manifest.visibility != "private":
        data = workspace.dataset(prepared.manifest)
        sheet.draw([on_disk(data, name) for name in names], folder.sheet)


def write_weights(
    folder: Path,
    manifest: ImageManifest | TextManifest,
    adapter: LoraAdapter,
    fingerprint: str,
) -> None:
    """Write an adapter in the form its library loads: diffusers for pictures, PEFT for text."""
    # Nothing else goes into the header: equal fingerprints are to give equal files.
    notes = {"lorareg.fingerprint": fingerprint}
    if isinstance(manifest, ImageManifest):
        diffusers.write(folder / diffusers.FILE, adapter, notes)
    else:
        peft.write(folder, adapter, public_name(manifest.base), notes)


def replace_folder(fresh: Path, target: Path) -> None:
    """Put ``fresh`` in the place of ``target``; a kill leaves one of the two, or a missing one."""
    old, near = (target.with_name(f".{target.name}.{end}") for end in ("old", "new"))
    for left in (old, near):
        shutil.rmtree(left, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    ready = _beside(fresh, near)
    if target.exists():
        target.rename(old)
    ready.rename(target)
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _beside(fresh: Path, near: Path) -> Path:
    """``near``, with what was in ``fresh``: a rename, or a copy where runs are on another disk."""
    try:
        return fresh.rename(near)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    near.mkdir()
    for file in fresh.iterdir():
        write_atomically(near / file.name, file.read_bytes())
    shutil.rmtree(fresh)
    return near
