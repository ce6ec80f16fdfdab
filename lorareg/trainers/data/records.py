"""The digest of every record of a dataset, read without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lorareg.registry.dataset import Listing
from lorareg.registry.digest import of_bytes, of_json
from lorareg.registry.manifest import ImageManifest, TextManifest
from lorareg.trainers.data import dialogues, images
from lorareg.trainers.data.dialogues import DialogueRecord
from lorareg.trainers.data.images import ImageRecord


def read_pictures(folder: Path, manifest: ImageManifest, listing: Listing) -> list[ImageRecord]:
    """Pictures and captions of an image dataset, as its manifest says."""
    chosen = manifest.dataset
    return images.read_records(folder, listing.files, chosen.captions, chosen.skip)


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
    """Row -> digest of its turns."""
    return {
        record.id: of_json([[turn.role, turn.content] for turn in record.messages])
        for record in records
    }
