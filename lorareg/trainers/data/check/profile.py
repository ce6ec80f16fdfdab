"""The ICC profile of a picture: whether its numbers mean the colours that sRGB means."""

from __future__ import annotations

import io
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageCms

SRGB = "sRGB"
SAME = 3  # of 255: profiles of sRGB by different makers differ by rounding
MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


@lru_cache(maxsize=256)
def name_of(profile: bytes | None) -> str | None:
    """What a profile is: None without one, "sRGB" when it means the same colours, or its name."""
    if not profile:
        return None
    try:
        parsed = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if _means_srgb(parsed):
            return SRGB
        return ImageCms.getProfileDescription(parsed).strip() or "without a name"
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return "unreadable"


def _means_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    """Measured on 729 colours: there are as many sRGB profiles as programs that write them."""
    mode = MODES.get(profile.profile.xcolor_space.strip())
    if mode in (None, "CMYK"):
        return False
    colours = _colours().convert(mode)
    into = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
    after = np.asarray(into.apply(colours), dtype=int)
    return int(np.abs(after - np.asarray(colours.convert("RGB"), dtype=int)).max()) <= SAME


@cache
def _colours() -> Image.Image:
    """Nine levels of red, green and blue each."""
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), -1).reshape(27, 27, 3))
