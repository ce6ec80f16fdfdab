"""Pictures of a dataset: found with their captions, decoded as people see them.

The folder is read and never written to.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from lorareg.errors import InvalidFileError, NotFoundError, listed
from lorareg.registry.dataset import is_image, kept
from lorareg.trainers.data.caption_files import on_disk, read_captions
from lorareg.trainers.data.unread import kind

# What the endings promise. The decoders of other formats stay shut: EPS starts Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP")
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LYING = range(5, 9)  # EXIF orientations that swap width and height


@dataclass(frozen=True)
class MaskFile:
    """A picture's mask in a file of its own; ``sha256`` names what was made of it in the cache."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class ImageRecord:
    """One picture with its caption.

    Attributes:
        id: path within the dataset, POSIX.
        sha256: digest of the file, which names its latents in the cache.
        mask: of a dataset with a folder of masks.
    """

    id: str
    path: Path
    caption: str
    sha256: str
    mask: MaskFile | None = None


def read_records(
    folder: Path, files: Mapping[str, str], captions: str | None, skip: Sequence[str] = ()
) -> list[ImageRecord]:
    """Pair every picture with its caption.

    Args:
        folder: of the dataset.
        files: its listing, name -> digest.
        captions: name of the caption file, "txt", or None to take what is there.
        skip: names of quarantined pictures, and folders ("masks/") that hold something else.

    Raises:
        NotFoundError: no picture, or no captions at all.
        InvalidFileError: lists every picture without a caption and every caption without one.
    """
    images = kept([name for name in sorted(files) if is_image(name)], skip)
    if not images:
        raise NotFoundError(
            f"dataset {folder.name}/ has no picture",
            why="it holds no .jpg, .jpeg, .png or .webp file that is not skipped",
            fix="put pictures into it, then run lorareg train again",
        )
    table = read_captions(folder, images, captions)
    empty = [f"{name}: no caption" for name in images if not table.get(name, "").strip()]
    lost = [f"{name}: caption of a picture that is not there" for name in table.keys() - set(files)]
    if empty or lost:
        raise InvalidFileError(
            f"dataset {folder.name}/: {len(empty) + len(lost)} captions are missing or astray",
            why="\n" + listed([*empty, *sorted(lost)], limit=100),
            fix="add the captions, or remove the pictures",
        )
    return [ImageRecord(n, on_disk(folder, n), table[n].strip(), files[n]) for n in images]


def load_image(path: Path) -> Image.Image:
    """A picture as people see it: upright by its EXIF orientation, RGB, transparency over white.

    Raises:
        InvalidFileError: truncated, not a picture, or a decompression bomb.
    """
    with opened(path) as image:
        return as_seen(image)


@contextmanager
def opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    """A picture's file, its header read; what cannot be decoded in the block is refused.

    Raises:
        InvalidFileError: truncated, not a picture, or a decompression bomb.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            yield image
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise InvalidFileError(f"{path.name} cannot be decoded", why=_why(path, error)) from error


def as_seen(image: Image.Image) -> Image.Image:
    """Decode an opened picture, turn it upright, and lay it over white."""
    upright = turned(image)
    if upright.mode.startswith("I"):
        return eight_bit(upright).convert("RGB")
    if upright.has_transparency_data:
        canvas = Image.new("RGBA", upright.size, "white")
        canvas.alpha_composite(upright.convert("RGBA"))
        upright = canvas
    return upright if upright.mode == "RGB" else upright.convert("RGB")


def turned(image: Image.Image) -> Image.Image:
    """Decode an opened picture and turn it upright by its EXIF orientation.

    ``ImageOps.exif_transpose`` also writes the metadata anew, and fails where they are damaged.
    """
    image.load()
    method = UPRIGHT.get(orientation(image))
    return image if method is None else image.transpose(method)


def orientation(image: Image.Image) -> int:
    """EXIF's number for how a picture lies, 1 is upright; what is no number counts as 1."""
    value = image.getexif().get(ExifTags.Base.Orientation, 1)
    return value if isinstance(value, int) else 1


def _why(path: Path, error: Exception) -> str:
    """What Pillow's words mean to people who have the picture before them."""
    if isinstance(error, UnidentifiedImageError):
        if not path.stat().st_size:
            return "it is empty"
        return f"it is {kind(path) or 'no JPEG, PNG or WebP picture'}, whatever its name says"
    if isinstance(error, Image.DecompressionBombError):
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        return f"it has more than {limit} million pixels, which no training needs: shrink it first"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror  # the disk's words; all of the error would name the path
    return f"its data are damaged or cut off ({error})"


def eight_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 bits a pixel, scaled: Pillow's own conversion makes all above 255 white."""
    values = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
