"""Personal data is trained on only after it was redacted, or when one of the owners says so."""

from __future__ import annotations

from pathlib import Path

from lorareg.errors import TrainingError, listed
from lorareg.registry.dataset import Listing
from lorareg.registry.manifest import ImageManifest, TextManifest
from lorareg.trainers.data.redact.record import unredacted

WAIVE = "let an owner write dataset.waiver: {by: OWNER, reason: ...} into manifest.yaml"
MARK = "dataset.contains_personal_data is true, and no owner has waived it"


def refuse(manifest: ImageManifest | TextManifest, folder: Path, listing: Listing) -> None:
    """Stop where a dataset is marked as personal, and is neither redacted nor waived by an owner.

    Raises:
        TrainingError: it is; files that are not redacted are named.
    """
    chosen = manifest.dataset
    if not chosen.contains_personal_data or chosen.waiver:
        return
    what = f"{manifest.id}: dataset {chosen.path} contains personal data"
    if not isinstance(manifest, TextManifest):
        raise TrainingError(what, why=MARK, fix=WAIVE)
    raw = unredacted(folder, listing.files)
    if not raw:
        return
    out = f"{chosen.path.removesuffix('.jsonl')}_redacted{'.jsonl' * folder.is_file()}"
    raise TrainingError(
        what,
        why=f"{MARK}:\n" + listed([f"{name}: {why}" for name, why in sorted(raw.items())]),
        fix=f"lorareg data redact {manifest.id} --out {out}, and set dataset.path; or {WAIVE}",
    )
