"""Pictures of the class that an adapter's subject belongs to, for prior preservation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import InvalidFileError, NotFoundError, listed
from lorareg.registry import dataset
from lorareg.registry.dataset import Listing, is_image
from lorareg.registry.lock import DatasetInput
from lorareg.registry.manifest import ImageManifest, Manifest
from lorareg.registry.workspace import Workspace
from lorareg.trainers.data.caption_files import on_disk, read_captions
from lorareg.trainers.data.copies.buckets import Size, nearest
from lorareg.trainers.data.cuts import upright_size
from lorareg.trainers.data.images import ImageRecord


@dataclass(frozen=True)
class ClassPictures:
    """What stands in the folder of a class.

    Attributes:
        input: as the lock will hold it.
    """

    listing: Listing
    records: tuple[ImageRecord, ...]
    input: DatasetInput


def scan(workspace: Workspace, manifest: Manifest) -> Listing | None:
    """List and hash the folder that ``train.prior`` names.

    Raises:
        NotFoundError: it is not here.
        LoraregError: as ``dataset.scan``.
    """
    if not (isinstance(manifest, ImageManifest) and manifest.train.prior):
        return None
    _, folder = workspace.data(manifest)
    if not folder.is_dir():
        raise NotFoundError(
            f"there are no class pictures at {manifest.train.prior.path}/",
            why="train.prior.path names this folder, and it does not exist here",
            fix=f"fetch its bytes: lorareg pull {manifest.id}; or correct train.prior.path",
        )
    return dataset.scan(folder, workspace.digests)


def find(workspace: Workspace, manifest: Manifest) -> ClassPictures | None:
    """Read the folder that ``train.prior`` names; None without one.

    Raises:
        LoraregError: as ``scan`` and ``read``.
    """
    listing = scan(workspace, manifest)
    if listing is None or not (isinstance(manifest, ImageManifest) and manifest.train.prior):
        return None
    _, folder = workspace.data(manifest)
    prior = manifest.train.prior
    records = read(folder, listing.files, prior.caption)
    found = DatasetInput(
        path=prior.path,
        digest=listing.digest,
        files=len(listing.files),
        records=len(records),
        md5=workspace.data_md5(folder),
    )
    return ClassPictures(listing, tuple(records), found)


def read(folder: Path, files: Mapping[str, str], caption: str) -> list[ImageRecord]:
    """Pair every picture with its own caption, or else with that of the class.

    Args:
        folder: of the class.
        files: its listing, name -> digest.
        caption: of the pictures that have none.

    Raises:
        NotFoundError: no picture.
        InvalidFileError: captions that cannot be read, or of pictures that are not there.
    """
    images = [name for name in sorted(files) if is_image(name)]
    if not images:
        raise NotFoundError(
            f"the class folder {folder.name}/ has no picture",
            why="it holds no .jpg, .jpeg, .png or .webp file",
            fix="put pictures of the class into it, or remove train.prior from the manifest",
        )
    table = read_captions(folder, images, None)
    if lost := sorted(table.keys() - set(files)):
        raise InvalidFileError(
            f"the class folder {folder.name}/ has {len(lost)} captions without their pictures",
            why="\n" + listed(lost, limit=100),
            fix="add the pictures, or remove the captions",
        )
    return [
        ImageRecord(
            name, on_disk(folder, name), table.get(name, "").strip() or caption, files[name]
        )
        for name in images
    ]


def by_size(
    pictures: Sequence[ImageRecord], records: Mapping[Size, int]
) -> dict[Size, tuple[ImageRecord, ...]]:
    """Which class pictures may stand beside the records of each training size.

    They are cut to the size of the record. So those of nearly its shape are taken, if they are at
    least as many as the records; else all of them are.

    Args:
        pictures: of the class; without any, nothing stands beside a record.
        records: training size -> number of records.
    """
    if not pictures:
        return {}
    if len(records) == 1:
        return dict.fromkeys(records, tuple(pictures))
    like = {picture: nearest(upright_size(picture.path), sorted(records)) for picture in pictures}
    found = {size: tuple(p for p in pictures if like[p] == size) for size in records}
    return {
        size: found[size] if len(found[size]) >= count else tuple(pictures)
        for size, count in records.items()
    }
