"""From a picture to a training picture: which size it gets, and what of it is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lorareg.errors import InvalidFileError
from lorareg.registry.image_training import Buckets, ImageTraining
from lorareg.trainers.data.copies.buckets import buckets, filled, fit, nearest
from lorareg.trainers.data.cuts import Cut, sizes

SIDES = st.integers(1, 4000)
PICTURES = st.tuples(SIDES, SIDES)
STEPS = st.sampled_from([8, 16, 64])


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 0 * x], axis=-1).astype(np.uint8))


def saved(folder: Path, **pictures: tuple[int, int]) -> dict[str, Path]:
    found = {}
    for name, size in pictures.items():
        found[name] = folder / f"{name}.png"
        Image.new("RGB", size).save(found[name])
    return found


def settings(resolution: int = 128, step: int = 16, *, upscale: bool = False) -> ImageTraining:
    return ImageTraining(resolution=resolution, buckets=Buckets(step=step, upscale=upscale))


@pytest.mark.parametrize(
    ("size", "side", "shrunk", "corner"),
    [
        ((64, 64), 32, (32, 32), (0, 0)),
        ((128, 64), 32, (64, 32), (16, 0)),
        ((64, 128), 32, (32, 64), (0, 16)),
        ((101, 67), 64, (96, 64), (16, 0)),
        ((1000, 33), 32, (970, 32), (469, 0)),
        ((16, 24), 32, (32, 48), (0, 8)),
        ((32, 32), 32, (32, 32), (0, 0)),
    ],
)
def test_a_square_is_the_middle_of_the_shrunk_picture(
    size: tuple[int, int], side: int, shrunk: tuple[int, int], corner: tuple[int, int]
) -> None:
    image = gradient(*size)

    cut = Cut.of(size, (side, side))
    made = cut.of_picture(image)

    assert (cut.shrunk, cut.corner) == (shrunk, corner)
    left, top = corner
    whole = image.resize(shrunk, Image.Resampling.LANCZOS)
    assert made == whole.crop((left, top, left + side, top + side))
    red, green, _ = np.asarray(made).astype(float).mean(axis=(0, 1))
    assert (red, green) == (pytest.approx(127, abs=3), pytest.approx(127, abs=3))


def test_a_picture_of_its_training_size_is_taken_pixel_by_pixel() -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (48, 96, 3), np.uint8))

    assert Cut.of((96, 48), (96, 48)).of_picture(noise) == noise


@given(PICTURES, st.tuples(st.integers(1, 40), st.integers(1, 40)), st.booleans())
def test_a_cut_covers_its_size_and_lies_within_the_picture(
    picture: tuple[int, int], steps: tuple[int, int], mirrored: bool
) -> None:
    size = (8 * steps[0], 8 * steps[1])

    cut = Cut.of(picture, size, mirrored=mirrored)

    height, width, top, left = cut.frame
    assert (width, height) == picture
    assert 0 <= left <= cut.shrunk[0] - size[0]
    assert 0 <= top <= cut.shrunk[1] - size[1]
    assert cut.shrunk[0] == size[0] or cut.shrunk[1] == size[1]


def test_the_mirrored_cut_is_the_cut_of_the_mirrored_picture() -> None:
    """Its left corner is counted from the other side, which rounding makes another."""
    image = gradient(101, 40)
    cut, mirrored = (Cut.of((101, 40), (32, 32), mirrored=m) for m in (False, True))

    turned = mirrored.of_picture(image)

    assert turned == cut.of_picture(image).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert (cut.frame, mirrored.frame) == ([40, 101, 0, 24], [40, 101, 0, 25])


def test_without_buckets_every_picture_is_the_square(tmp_path: Path) -> None:
    found = sizes(saved(tmp_path, wide=(90, 20), small=(9, 9)), ImageTraining(resolution=64))

    assert found.of == {"wide": (64, 64), "small": (64, 64)}


def test_a_picture_goes_to_the_bucket_of_its_shape(tmp_path: Path) -> None:
    pictures = saved(tmp_path, wide=(640, 400), tall=(300, 900), square=(500, 510))

    found = sizes(pictures, settings())

    assert found.of == {"wide": (160, 96), "tall": (64, 208), "square": (128, 128)}
    assert found.small == ()
    assert found.describe() == "1 of 64x208, 1 of 128x128, 1 of 160x96"


def test_a_picture_as_it_lies_decides_and_not_as_it_was_stored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    Image.new("RGB", (640, 400)).save(tmp_path / "a.jpg", exif=exif)

    assert sizes({"a": tmp_path / "a.jpg"}, settings()).of == {"a": (96, 160)}


def test_a_small_picture_is_not_enlarged_unless_that_is_wanted(tmp_path: Path) -> None:
    pictures = saved(tmp_path, small=(120, 75), large=(640, 400))

    kept, enlarged = sizes(pictures, settings()), sizes(pictures, settings(upscale=True))

    assert kept.of == {"small": (112, 64), "large": (160, 96)}
    assert enlarged.of == {"small": (160, 96), "large": (160, 96)}
    assert kept.small == enlarged.small == ("small",)


@given(PICTURES, STEPS, st.integers(1, 12))
def test_the_bucket_of_a_small_picture_is_the_largest_that_it_fills(
    picture: tuple[int, int], step: int, steps: int
) -> None:
    """And it costs no more than the square, whatever the picture."""
    size = step * steps
    if fit(picture, nearest(picture, buckets(size, step))).scale <= 1:
        return

    found = filled(picture, step)

    if found is None:
        assert min(picture) < step
        return
    assert found[0] % step == found[1] % step == 0
    assert fit(picture, found).scale <= 1
    assert found[0] * found[1] <= size * size
    assert max(found) <= 4 * min(found)
    wider, taller = (found[0] + step, found[1]), (found[0], found[1] + step)
    for larger in (wider, taller):
        assert fit(picture, larger).scale > 1 or max(larger) > 4 * min(larger)


def test_pictures_that_fill_no_bucket_are_all_named(tmp_path: Path) -> None:
    pictures = saved(tmp_path, thin=(300, 15), tiny=(9, 9), fine=(300, 300))

    with pytest.raises(InvalidFileError, match="2 pictures fill no bucket") as caught:
        sizes(pictures, settings())

    assert "thin: 300x15" in caught.value.why
    assert "tiny: 9x9" in caught.value.why
    assert "upscale: true" in caught.value.fix
    assert sizes(pictures, settings(upscale=True)).of["tiny"] == (128, 128)
