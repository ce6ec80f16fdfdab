"""One picture -> one copy: decoded, cut, shrunk, written without metadata."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL
from PIL import Image, features

from lorareg import __version__
from lorareg.errors import InvalidFileError
from lorareg.registry import digest
from lorareg.registry.files import write_atomically
from lorareg.trainers.data.copies import buckets, colour, faces
from lorareg.trainers.data.copies.provenance import Copy, LeftOut, Settings

# Lossless where possible: a VAE learns the blocks of a second JPEG compression as texture.
SAVING: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG", "compress_level": 6},
    "jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0, "optimize": True},
    "webp": {"format": "WEBP", "lossless": True, "quality": 80, "method": 4},
}
ENDINGS = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}


@dataclass(frozen=True)
class Job:
    """What a process is asked to do; small, since it is sent to one.

    Attributes:
        source: name of the picture in its dataset; path: where it is.
        target: the file to write; None only measures.
    """

    source: str
    sha256: str
    path: Path
    target: Path | None
    settings: Settings


def versions(settings: Settings) -> dict[str, str]:
    """What decides the bytes of a copy besides its picture and the settings."""
    found = {
        "lorareg": __version__,
        "pillow": PIL.__version__,
        "littlecms": features.version("littlecms2"),
        "jpeg": features.version("jpg"),
        "zlib": features.version("zlib"),
        "webp": features.version("webp"),
        "opencv": faces.require() if settings.crop == "face" else None,
    }
    return {name: version for name, version in found.items() if version}


def make(job: Job) -> Copy | LeftOut:
    """Make a copy, or say why there is none.

    Raises:
        LoraregError: it cannot be written, as on a full disk.
    """
    try:
        picture = colour.read(job.path)
    except InvalidFileError as error:
        return LeftOut(
            source=job.source,
            source_sha256=job.sha256,
            reason="broken",
            why=error.why or str(error),
        )
    image, settings = picture.image, job.settings
    choice = [(settings.size, settings.size)]
    if settings.shape == "buckets":
        choice = list(buckets.buckets(settings.size))
    bucket = buckets.nearest(image.size, choice)
    if buckets.fit(image.size, bucket).scale > 1 and not settings.upscale:
        return LeftOut(
            source=job.source,
            source_sha256=job.sha256,
            reason="too small",
            why=f"{_shown(image.size)}, would have to be enlarged to fill {_shown(bucket)}",
        )
    found = faces.find(image) if settings.crop == "face" else None
    cut = buckets.fit(image.size, bucket, faces.centre(found[0]) if found else None)
    data = _encoded(image.resize(bucket, Image.Resampling.LANCZOS, box=cut.box), settings)
    if job.target:
        write_atomically(job.target, data)
    return Copy(
        source=job.source,
        source_sha256=job.sha256,
        sha256=digest.of_bytes(data),
        size=bucket,
        box=cut.box,
        scale=round(cut.scale, 6),
        centred_on="face" if found else "centre",
        faces=None if found is None else len(found),
        changes=picture.changes,
        stripped=picture.stripped,
    )


def _encoded(image: Image.Image, settings: Settings) -> bytes:
    stream = io.BytesIO()
    image.save(stream, **SAVING[settings.format])
    return stream.getvalue()


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
