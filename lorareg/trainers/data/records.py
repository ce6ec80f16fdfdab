"""The digest of every record of a dataset, read without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lorareg.registry.dataset import Listing
from lorareg.registry.digest import of_bytes, of_json
from lorareg.registry.manifest import ImageManifest, TextManifest
from lorareg.trainers.data import dialogues, images, masks
from lorareg.trainers.data.dialogues import DialogueRecord
from lorareg.trainers.data.images import ImageRecord


def read_pictures(folder: Path, manifest: ImageManifest, listing: Listing) -> list[ImageRecord]:
    """Pictures, captions and masks of an image dataset, as its manifest says."""
    found = images.read_records(
        folder, listing.files, manifest.dataset.captions, manifest.left_alone
    )
    masked = manifest.train.masked_loss
    if masked and masked.folder:
        return masks.attach(found, folder, listing.files, masked.folder)
    return found


def record_digests(
    folder: Path, manifest: ImageManifest | TextManifest, listing: Listing
) -> dict[str, str]:
    """Record id -> digest of its caption or dialogue; pictures themselves are in the listing."""
    if isinstance(manifest, TextManifest):
        return of_dialogues(dialogues.read_dialogues(folder))
    return of_pictures(read_pictures(folder, manifest, listing))


def of_pictures(records: Sequence[ImageRecord]) -> dict[str, str]:
    """Picture name -> digest of its caption."""
    return {record.id: of_bytes(record.caption.encode()) for record in records}


def of_dialogues(records: Sequence[DialogueRecord]) -> dict[str, str]:
    """Row -> digest of its turns; of a preference pair, of the turns of both dialogues."""
    return {record.id: of_json(_turns(record)) for record in records}


def _turns(record: DialogueRecord) -> object:
    messages, rejected = (
        [[turn.role, turn.content] for turn in side] for side in (record.messages, record.rejected)
    )
    return {"chosen": messages, "rejected": rejected} if rejected else messages
