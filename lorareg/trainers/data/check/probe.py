"""One picture measured: what its file says, how sharp and bright it is, what it looks like."""

from __future__ import annotations

import base64
import struct
from bisect import bisect_left
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from lorareg.trainers.data.check.profile import name_of
from lorareg.trainers.data.images import LYING, as_seen, opened, orientation, turned

PROBE = 1  # raise it when a measure changes: facts of another number are measured again
SIDE = 256  # pixels of the shorter side at which pictures are measured, so that size matters little
THUMB, TINT = 32, 8  # pixels a side of the thumbnails of lightness and of colour
TILES = 8  # tiles along the shorter side, in which sharpness is measured
LEAST = 4  # pixels a side of a tile at half size; the Laplacian needs three
DETAILED = 8  # one tile of so many counts: the most detailed; the rest may be sky or background
ROUNDING = 2.0  # Laplacian variance of 8-bit rounding alone: 1/12 times 4 * 1 + 16
FAINT = 8.0  # Laplacian variance below which there is hardly an edge to be sharp
GPS = 0x8825  # the EXIF tag of a directory, and of that two tags:
LATITUDE, LONGITUDE = 2, 4

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a picture once it was decoded.

    Attributes:
        width, height: pixels, as people see it: after EXIF orientation.
        mode: of the pixels in the file, in Pillow's words: "RGB", "CMYK", "P".
        bits: a channel, in the file.
        format: "JPEG", "PNG", "WEBP", or "MPO" for a JPEG of several views.
        frames: of an animation; 1 for a picture.
        orientation: EXIF's number, 1 is upright.
        transparent: whether any pixel is.
        profile: None without an ICC profile, "sRGB", or the profile's own name.
        gps: whether its metadata says where it was taken.
        sharpness: ``sharpness`` of it; None below 32 pixels, where nothing can be said.
        darkest, brightest: lightness (0-255) below which 1 % of the pixels are, and 99 %.
        phash: perceptual hash, 64 bits.
        thumb: lightness 32x32, bytes in base64.
        tint: blue and red difference 8x8 each, bytes in base64; None where not computed yet.
    """

    width: int
    height: int
    mode: str
    bits: int
    format: str
    frames: int
    orientation: int
    transparent: bool
    profile: str | None
    gps: bool
    sharpness: float | None
    darkest: int
    brightest: int
    phash: int
    thumb: str
    tint: str | None

    def document(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def of(cls, document: dict[str, Any]) -> Self:
        """The facts a document holds; ``Facts.of(facts.document()) == facts``."""
        return cls(**document)


def probe(path: Path) -> Facts:
    """Decode and measure a picture.

    A JPEG is read to its last byte, but its pixels are computed no larger than they are measured,
    and only their lightness: 0.6 of the time at 512 pixels, a fifth of it at 4,000. ``tint``
    fetches the colours where they matter.
    Pillow may warn of damaged metadata and of sizes near its limit; whoever calls this for many
    pictures silences that once (``probes.probe_all`` does).

    Raises:
        InvalidFileError: what ``images.load_image`` refuses.
    """
    with opened(path) as image:
        said: dict[str, Any] = {"mode": image.mode, "bits": _bits(image)}
        width, height = image.size
        image.draft("L", (SIDE, SIDE))
        image.load()  # metadata may come after the pixels
        said |= _said(image)
        plain = image.mode == "L" and not image.has_transparency_data
        seen = turned(image) if plain else as_seen(image)
    if said["orientation"] in LYING:
        width, height = height, width
    coloured = None if said["mode"] == "RGB" and seen.mode == "L" else _tint(seen)
    return Facts(width=width, height=height, tint=coloured, **said, **_measured(seen))


def tint(path: Path) -> str:
    """``Facts.tint`` of a picture that was measured before; a JPEG is decoded at an eighth.

    Raises:
        InvalidFileError: what ``images.load_image`` refuses.
    """
    with opened(path) as image:
        image.draft("RGB", (8 * TINT, 8 * TINT))
        return _tint(as_seen(image))


def _said(image: Image.Image) -> dict[str, Any]:
    """What the file says of itself."""
    kind = image.format or ""
    return {
        "format": kind,
        "frames": getattr(image, "n_frames", 1) if kind != "MPO" else 1,
        "orientation": orientation(image),
        "transparent": _is_transparent(image),
        "profile": name_of(image.info.get("icc_profile")),
        "gps": _is_located(image),
    }


def _measured(seen: Image.Image) -> dict[str, Any]:
    """What the pixels show, at most ``SIDE`` pixels the shorter side."""
    grey = _shrunk(seen if seen.mode == "L" else seen.convert("L"))
    half = grey.reduce(2)
    enough = grey.reduce(max(1, min(grey.size) // (2 * THUMB)))
    thumb = enough.resize((THUMB, THUMB), Image.Resampling.LANCZOS)
    darkest, brightest = _percentiles(half.histogram())
    return {
        "sharpness": sharpness(grey, half),
        "darkest": darkest,
        "brightest": brightest,
        "phash": phash(thumb),
        "thumb": base64.b64encode(thumb.tobytes()).decode(),
    }


def _tint(seen: Image.Image) -> str:
    small = seen.resize((TINT, TINT), Image.Resampling.BOX, reducing_gap=2.0).convert("YCbCr")
    _, blue, red = small.split()
    return base64.b64encode(blue.tobytes() + red.tobytes()).decode()


def sharpness(grey: Image.Image, half: Image.Image) -> float | None:
    """How much of its detail a picture has at full size, around 0 (none) to 1.

    The variance of the Laplacian in the most detailed eighth of the picture, divided by the same
    at half the size. The division takes contrast out of it: a pale drawing is as sharp as a black
    one, and only what was smoothed has less at full size than at half. Looking at the most
    detailed tiles lets a portrait have a soft background.

    Args:
        grey: a picture of mode L, its shorter side ``SIDE`` pixels or fewer.
        half: the same, reduced by 2.

    Source: Pech-Pacheco et al. 2000 (variance of the Laplacian); Crete et al. 2007,
    doi:10.1117/12.702790 (compare a picture with a smoother one of itself).
    """
    if min(grey.size) < THUMB:
        return None
    side = max(LEAST, min(half.size) // TILES)
    grid = (grey.height // (2 * side), grey.width // (2 * side))
    coarse = _energy(_tiles(half, side, grid).reshape(-1, side, side))
    if not coarse.any() and min(grid) > 1:
        # Squares of pixel art may lie on the tiles: all edges are between them then.
        return sharpness(_cut(grey, side), _cut(half, side // 2))
    count = max(1, coarse.size // DETAILED)
    chosen = np.argsort(coarse)[-count:]
    fine = _energy(_tiles(grey, 2 * side, grid)[divmod(chosen, grid[1])])
    above = max(0.0, float(fine.sum()) / count - ROUNDING)
    return round(above / (float(coarse[chosen].sum()) / count + FAINT), 4)


def _cut(grey: Image.Image, margin: int) -> Image.Image:
    return grey.crop((margin, margin, grey.width, grey.height))


def phash(thumb: Image.Image) -> int:
    """Perceptual hash: which of the 64 lowest frequencies are above their median.

    Equal to ``imagehash.phash``, whose import of scipy costs 0.2 s in every process. Coefficients
    are rounded, so that those that are zero by symmetry do not depend on the last bit.

    Args:
        thumb: mode L, 32x32.

    Source: Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions".
    """
    basis = _cosines()
    low = (basis @ np.asarray(thumb, dtype=np.float64) @ basis.T).round(6)
    middle = np.sort(low, axis=None)[31:33].sum() / 2  # np.median takes as long as all the rest
    return int.from_bytes(np.packbits(low > middle).tobytes(), "big")


@cache
def _cosines() -> NDArray[np.float64]:
    """The 8 lowest rows of the unnormalised DCT-II of 32 points, (8, 32)."""
    frequency, place = np.arange(8)[:, None], np.arange(THUMB)[None, :]
    return 2 * np.cos(np.pi * frequency * (2 * place + 1) / (2 * THUMB))


def _tiles(grey: Image.Image, side: int, grid: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture cut into squares (rows, columns, side, side); the rest is left out."""
    rows, columns = grid
    light = np.asarray(grey)[: rows * side, : columns * side]
    return light.reshape(rows, side, columns, side).swapaxes(1, 2)


def _energy(light: NDArray[np.uint8]) -> Floats:
    """Mean square of the Laplacian within each tile: its variance, since its mean is zero."""
    tiles = light.astype(np.int16)
    edges = tiles[:, 1:-1, :-2] + tiles[:, 1:-1, 2:] + tiles[:, :-2, 1:-1] + tiles[:, 2:, 1:-1]
    edges -= 4 * tiles[:, 1:-1, 1:-1]
    square = np.square(edges.reshape(len(tiles), -1), dtype=np.float32)
    return np.asarray(square.sum(axis=1) / np.float32(square.shape[1]))


def _shrunk(seen: Image.Image) -> Image.Image:
    """A picture with a shorter side of at most ``SIDE`` pixels.

    By averaging areas: by interpolation, some sizes would come out half as sharp as others.
    """
    factor = min(seen.size) // SIDE
    reduced = seen.reduce(factor) if factor > 1 else seen
    scale = SIDE / min(reduced.size)
    if scale >= 1:
        return reduced
    size = (round(reduced.width * scale), round(reduced.height * scale))
    return reduced.resize(size, Image.Resampling.BOX)


def _percentiles(histogram: list[int]) -> tuple[int, int]:
    below = list(accumulate(histogram))
    return bisect_left(below, below[-1] * 0.01), bisect_left(below, below[-1] * 0.99)


def _bits(image: ImageFile.ImageFile) -> int:
    """Bits a channel; 48-bit colour is opened as 24-bit, and only its decoder's name says so."""
    return 16 if any("16" in str(tile.args) for tile in image.tile) else 8


def _is_transparent(image: Image.Image) -> bool:
    if not image.has_transparency_data:
        return False
    lowest = image.convert("RGBA").getchannel("A").getextrema()[0]
    return bool(lowest != 255)


def _is_located(image: Image.Image) -> bool:
    if b"GPSLatitude" in _bytes(image.info.get("xmp", b"")):
        return True
    try:
        place = image.getexif().get_ifd(GPS)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error):
        return False  # damaged beyond reading: it tells nobody a place
    return LATITUDE in place and LONGITUDE in place


def _bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value
