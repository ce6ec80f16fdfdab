"""Aspect buckets: a few picture sizes of nearly equal area, and how a picture is cut to one.

Pictures of a batch need one size. Square cuts take heads and feet off; buckets keep nearly all of
every picture, and each costs a training step about the same.

The sizes are those that kohya's scripts make: for every width in steps of 64, the tallest height in
steps of 64 whose area is not above size x size, sides from half to double the size (kohya's
defaults, 256 to 1024, at size 512), and each turned by 90 degrees. A picture goes to the bucket of
the nearest aspect. Nearest is measured as a ratio here, so that upright and lying pictures are
treated alike; kohya's difference of ratios is coarser for upright ones. (SimpleTuner makes no list:
it rounds each picture's own size at the wanted area to multiples of 64.)

Source: https://github.com/NovelAI/novelai-aspect-ratio-bucketing (the idea);
kohya-ss/sd-scripts, ``make_bucket_resolutions`` (the list).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

STEP = 64  # pixels: 8 for the VAE, times 8 for three halvings in the UNet
Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class Fit:
    """How a picture is cut to a bucket.

    Attributes:
        size: of the bucket.
        box: left, top, right, bottom of the part that is kept, in pixels of the picture. Left and
            top are whole, so that a cut at scale 1 copies pixels.
        scale: bucket pixels a picture pixel; above 1 the picture is enlarged.
    """

    size: Size
    box: tuple[float, float, float, float]
    scale: float


def buckets(size: int, step: int = STEP) -> tuple[Size, ...]:
    """Sizes of about ``size`` x ``size`` pixels, from upright to lying.

    >>> buckets(128)
    ((64, 256), (64, 192), (128, 128), (192, 64), (256, 64))

    Args:
        size: pixels, a multiple of ``step``.
        step: sides are multiples of this many pixels.
    """
    area = size * size
    found = {(size, size)}
    for width in range(max(step, size // 2 // step * step), 2 * size + 1, step):
        height = min(2 * size, area // width // step * step)
        if height >= max(step, size // 2 // step * step):
            found |= {(width, height), (height, width)}
    return tuple(sorted(found, key=lambda bucket: (bucket[0] / bucket[1], bucket)))


def nearest(picture: Size, choice: Sequence[Size]) -> Size:
    """The bucket whose aspect is nearest; of two equally near the larger.

    >>> nearest((1920, 1080), buckets(512))
    (640, 384)
    """
    width, height = picture

    def distance(bucket: Size) -> tuple[float, int]:
        ratio = math.log(width * bucket[1]) - math.log(height * bucket[0])
        return round(abs(ratio), 9), -bucket[0] * bucket[1]

    return min(choice, key=distance)


def filled(picture: Size, step: int = STEP) -> Size | None:
    """The bucket of a picture too small for any: its own sides, rounded down to steps.

    It is the largest that the picture fills without being enlarged, but no more than four times
    as long as wide, as the longest of ``buckets``.

    >>> filled((300, 200)), filled((100, 900)), filled((60, 900))
    ((256, 192), (64, 256), None)

    Returns:
        None if a side is shorter than a step.
    """
    width, height = (side // step * step for side in picture)
    if not width or not height:
        return None
    return min(width, 4 * height), min(height, 4 * width)


def fit(picture: Size, bucket: Size, focus: tuple[float, float] | None = None) -> Fit:
    """Keep as much of a picture as its bucket's aspect allows.

    >>> fit((1024, 768), (512, 512)).box
    (128, 0, 896.0, 768.0)

    Args:
        picture: its size.
        bucket: the size it gets.
        focus: (x, y) that the cut is centred on, as far as the picture reaches; default its centre.
    """
    scale = max(bucket[0] / picture[0], bucket[1] / picture[1])
    x, y = focus or (picture[0] / 2, picture[1] / 2)
    left, right = _span(x, bucket[0] / scale, picture[0])
    top, bottom = _span(y, bucket[1] / scale, picture[1])
    return Fit(bucket, (left, top, right, bottom), scale)


def _span(centre: float, length: float, limit: int) -> tuple[int, float]:
    """Where a cut starts and ends along one side, rounded to what a provenance file can hold."""
    start = max(0, min(math.floor(centre - length / 2 + 1e-6), math.floor(limit - length + 1e-6)))
    return start, min(float(limit), round(start + length, 2))
