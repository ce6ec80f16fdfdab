"""From a picture to a training picture: its bucket, and the part of it that is kept.

Where there are no buckets, every picture gets the square in its middle, enlarged if it is small.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from lorareg.errors import InvalidFileError, listed
from lorareg.registry.image_training import ImageTraining
from lorareg.trainers.data.copies.buckets import Size, buckets, filled, fit, nearest
from lorareg.trainers.data.images import LYING, opened, orientation

MIRROR = Image.Transpose.FLIP_LEFT_RIGHT
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Cut:
    """Where in a picture its training picture is.

    The picture is shrunk (or enlarged) until it just covers the training size, and the middle is
    kept.

    Attributes:
        picture: width and height of the picture, pixels.
        size: width and height of the training picture.
        shrunk: width and height of the picture once it covers the training size.
        corner: left and top of the cut in the shrunk picture.
        is_mirrored: whether left and right are exchanged, in the end.
    """

    picture: Size
    size: Size
    shrunk: Size
    corner: tuple[int, int]
    is_mirrored: bool = False

    @classmethod
    def of(cls, picture: Size, size: Size, *, mirrored: bool = False) -> Cut:
        """The cut of a picture to a training size."""
        scale = max(size[0] / picture[0], size[1] / picture[1])
        width, height = (
            max(least, round(side * scale)) for side, least in zip(picture, size, strict=True)
        )
        corner = ((width - size[0]) // 2, (height - size[1]) // 2)
        return cls(picture, size, (width, height), corner, mirrored)

    @property
    def is_enlarged(self) -> bool:
        """Whether the picture is smaller than what it has to cover."""
        return self.shrunk[0] > self.picture[0] or self.shrunk[1] > self.picture[1]

    @property
    def frame(self) -> list[int]:
        """SDXL's micro-conditioning: original height and width, top and left of the cut, pixels.

        Of a mirrored picture the left is counted in the mirrored picture.
        """
        left, top = self.corner
        if self.is_mirrored:
            left = self.shrunk[0] - self.size[0] - left
        return [self.picture[1], self.picture[0], top, left]

    def of_picture(self, image: Image.Image) -> Image.Image:
        """The training picture."""
        left, top = self.corner
        covering = image.resize(self.shrunk, Image.Resampling.LANCZOS)
        made = covering.crop((left, top, left + self.size[0], top + self.size[1]))
        return made.transpose(MIRROR) if self.is_mirrored else made

    def of_mask(self, mask: Image.Image, size: Size) -> Image.Image:
        """The same part of a mask, which may be of another scale than the picture.

        Returns:
            Mode F, of ``size``, each pixel the mean of the mask's pixels below it.
        """
        across, down = mask.width / self.shrunk[0], mask.height / self.shrunk[1]
        left, top = self.corner
        right, bottom = left + self.size[0], top + self.size[1]
        box = (left * across, top * down, right * across, bottom * down)
        made = mask.convert("F").resize(size, Image.Resampling.BOX, box=_within(box, mask.size))
        return made.transpose(MIRROR) if self.is_mirrored else made


def _within(box: Box, size: Size) -> Box:
    """A box without the part by which rounding may let it stand out."""
    return box[0], box[1], min(box[2], size[0]), min(box[3], size[1])


def upright_size(path: Path) -> Size:
    """Width and height of a picture as people see it, from its header alone.

    Raises:
        InvalidFileError: not a picture.
    """
    with opened(path) as image:
        width, height = image.size
        return (height, width) if orientation(image) in LYING else (width, height)


@dataclass(frozen=True)
class Sizes:
    """The training size of every picture.

    Attributes:
        of: picture -> width and height in pixels.
        small: pictures that do not fill a bucket of the full area; they are enlarged, or got a
            smaller one. Only known with buckets.
    """

    of: Mapping[str, Size]
    small: tuple[str, ...] = ()

    def describe(self) -> str:
        """How many pictures are of which size."""
        counts = Counter(self.of.values())
        ordered = sorted(counts.items(), key=lambda item: (item[0][0] / item[0][1], item))
        return ", ".join(f"{count} of {w}x{h}" for (w, h), count in ordered)


def sizes(pictures: Mapping[str, Path], settings: ImageTraining) -> Sizes:
    """Give every picture its bucket, or all of them the square.

    A picture goes to the bucket of nearest aspect. One that would have to be enlarged to fill it
    goes to the largest that it fills (``buckets.filled``), unless ``buckets.upscale``.

    Raises:
        InvalidFileError: pictures that fill no bucket at all; all are named.
    """
    side = settings.resolution
    if settings.buckets is None:
        return Sizes(dict.fromkeys(pictures, (side, side)))
    step = settings.buckets.step
    choice = buckets(side, step)
    found: dict[str, Size] = {}
    small, tiny = [], []
    for name, path in pictures.items():
        picture = upright_size(path)
        bucket: Size | None = nearest(picture, choice)
        if bucket and fit(picture, bucket).scale > 1:
            small.append(name)
            bucket = bucket if settings.buckets.upscale else filled(picture, step)
        if bucket is None:
            tiny.append(f"{name}: {picture[0]}x{picture[1]}")
        else:
            found[name] = bucket
    _refuse(tiny, step)
    return Sizes(found, tuple(small))


def _refuse(tiny: Sequence[str], step: int) -> None:
    if tiny:
        raise InvalidFileError(
            f"{len(tiny)} picture{'s fill' if len(tiny) > 1 else ' fills'} no bucket",
            why=f"a side is shorter than train.buckets.step, {step} pixels:\n{listed(tiny)}",
            fix="remove them, or let them be enlarged: train.buckets.upscale: true",
        )
