"""Pictures for tests of the check: no two alike, with detail at all scales, as photographs have."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw


def photo(seed: int, size: tuple[int, int] = (160, 128)) -> Image.Image:
    """Coloured clouds with hard edges in them."""
    random = np.random.default_rng(seed)
    width, height = size
    picture = Image.new("RGB", size)
    for side in (4, 8, 16, 32, 64, max(size)):
        noise = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
        layer = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
        picture = Image.blend(picture, layer, 0.5 if side < 64 else 0.25)
    draw = ImageDraw.Draw(picture)
    for _ in range(8):
        corners = random.integers(0, (width, height), (3, 2)).tolist()
        colour = tuple(random.integers(0, 256, 3).tolist())
        draw.polygon([tuple(corner) for corner in corners], fill=colour)
    return picture
