"""Pictures as people see them, in sRGB: upright, 8 bits a channel, no transparency.

Colours go from the embedded profile to sRGB by littleCMS, relative colorimetric with black point
compensation: colours that sRGB has stay what they are, the others go to its edge. (The perceptual
intent would move all colours of a CMYK picture, each profile in its own way.)

Source: ICC.1:2022, 6.2; https://littlecms.com; Pillow's ImageCms.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageCms, ImageOps

from lorareg.trainers.data.check.profile import SRGB, name_of
from lorareg.trainers.data.images import eight_bit, opened

MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # colour space of a profile -> Pillow's mode
ORIENTATION, GPS = 0x0112, 0x8825  # EXIF tags
TRACES = {
    "icc_profile": "ICC",
    "exif": "EXIF",
    "xmp": "XMP",
    "XML:com.adobe.xmp": "XMP",
    "photoshop": "IPTC",
    "comment": "comment",
}


@dataclass(frozen=True)
class Picture:
    """A decoded picture and what became of its file's other contents.

    Attributes:
        image: RGB, without metadata.
        changes: what was done to the pixels: "CMYK profile to sRGB".
        stripped: what the file said beside its pixels: "EXIF", "GPS", "ICC".
    """

    image: Image.Image
    changes: tuple[str, ...]
    stripped: tuple[str, ...]


def read(path: Path, at_least: int | None = None) -> Picture:
    """Decode a picture.

    Args:
        path: of a JPEG, PNG or WebP.
        at_least: pixels a side that are enough; a large JPEG then decodes in an eighth of the time.

    Raises:
        InvalidFileError: truncated, not a picture, or a decompression bomb (above 179 megapixels).
    """
    with warnings.catch_warnings():
        # A camera's 100 megapixels are no attack; what is one raises DecompressionBombError.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with opened(path) as image:
            return _decoded(image, at_least)


def _decoded(image: Image.Image, at_least: int | None) -> Picture:
    if at_least:
        image.draft(None, (at_least, at_least))
    changes = []
    stripped = _traces(image)
    if (frames := getattr(image, "n_frames", 1)) > 1:
        changes.append(f"first of {frames} frames")
    if (orientation := image.getexif().get(ORIENTATION, 1)) != 1:
        changes.append(f"turned upright (EXIF orientation {orientation})")
    profile = image.info.get("icc_profile")
    seen = ImageOps.exif_transpose(image)
    if seen.mode.startswith("I"):
        seen = eight_bit(seen)
        changes.append("16 bits to 8")
    if seen.mode == "P" and seen.has_transparency_data:
        seen = seen.convert("RGBA")
    alpha = seen.convert("RGBA").getchannel("A") if seen.has_transparency_data else None
    coloured, change = _as_srgb(seen, profile)
    if change:
        changes.append(change)
    if alpha is not None and alpha.getextrema() != (255, 255):
        changes.append("transparency over white")
        canvas = Image.new("RGB", coloured.size, "white")
        canvas.paste(coloured, mask=alpha)
        coloured = canvas
    coloured.info = {}  # what is in there, Pillow would write into the copy
    return Picture(coloured, tuple(changes), stripped)


def _traces(image: Image.Image) -> tuple[str, ...]:
    """What a file tells beside its pixels; metadata at the end of a PNG is read too."""
    image.load()
    found = {name for key, name in TRACES.items() if image.info.get(key)}
    exif = image.getexif()
    if len(exif):
        found.add("EXIF")
    if GPS in exif:
        found.add("GPS")
    if getattr(image, "text", None):
        found.add("text")
    return tuple(sorted(found))


def _as_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, str | None]:
    """The colours of a picture in sRGB, and what was done if anything was."""
    by_formula = "CMYK to sRGB by formula, without a profile" if image.mode == "CMYK" else None
    if not profile or name_of(profile) == SRGB:
        return image.convert("RGB"), by_formula
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        mode = MODES.get(space)
        if mode is None or not _suits(mode, image):
            return image.convert("RGB"), f"{space} profile ignored: the picture is {image.mode}"
        transform = _to_srgb(source, mode)
    except (OSError, ImageCms.PyCMSError):
        return image.convert("RGB"), "unreadable colour profile ignored"
    # The profile's name stays out of it: those of calibrated screens name their owners.
    return transform.apply(image.convert(mode)), f"{space} profile to sRGB"


def _suits(mode: str, image: Image.Image) -> bool:
    """Whether a profile of this mode can be about these pixels; grey pixels are RGB too."""
    if mode == "RGB":
        return image.mode != "CMYK"
    return image.mode in {"L": ("L", "LA", "La", "1"), "CMYK": ("CMYK",)}[mode]


def _to_srgb(source: ImageCms.ImageCmsProfile, mode: str) -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
