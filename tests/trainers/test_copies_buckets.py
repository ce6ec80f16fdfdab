"""Aspect buckets: which sizes there are, which one a picture gets, and what is cut off it."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lorareg.trainers.data.copies.buckets import STEP, buckets, fit, nearest

SIDES = st.integers(1, 6000)
PICTURES = st.tuples(SIDES, SIDES)
SIZES = st.integers(1, 32).map(lambda steps: steps * STEP)


def turned(size: tuple[int, int]) -> tuple[int, int]:
    return size[1], size[0]


def test_the_buckets_of_512_are_those_that_kohyas_scripts_make() -> None:
    upright = [
        (256, 1024), (256, 960), (256, 896), (256, 832), (320, 768), (320, 704), (384, 640),
        (448, 576),
    ]  # fmt: skip

    assert buckets(512) == (*upright, (512, 512), *map(turned, reversed(upright)))


@given(SIZES)
def test_a_bucket_costs_no_more_than_the_square_and_stands_in_steps_of_64(size: int) -> None:
    for width, height in buckets(size):
        assert width * height <= size * size
        assert width % STEP == height % STEP == 0
        assert max(width, height) <= 2 * size
        assert turned((width, height)) in buckets(size)


@given(PICTURES, SIZES)
@example((184, 512), 512)  # by the difference of ratios: 320x768 lying, 256x832 upright
def test_a_turned_picture_gets_the_turned_bucket(picture: tuple[int, int], size: int) -> None:
    choice = buckets(size)

    assert nearest(turned(picture), choice) == turned(nearest(picture, choice))


@pytest.mark.parametrize("bucket", buckets(768))
def test_a_picture_of_a_buckets_size_stays_whole(bucket: tuple[int, int]) -> None:
    cut = fit(bucket, nearest(bucket, buckets(768)))

    assert (cut.size, cut.box, cut.scale) == (bucket, (0, 0, *bucket), 1)


@given(PICTURES, SIZES, st.tuples(st.floats(-9000, 9000), st.floats(-9000, 9000)))
def test_a_cut_lies_in_the_picture_and_reaches_from_edge_to_edge(
    picture: tuple[int, int], size: int, focus: tuple[float, float]
) -> None:
    cut = fit(picture, nearest(picture, buckets(size)), focus)

    left, top, right, bottom = cut.box
    assert 0 <= left < right <= picture[0]
    assert 0 <= top < bottom <= picture[1]
    across, down = (right - left) * cut.scale, (bottom - top) * cut.scale
    assert across == pytest.approx(cut.size[0], abs=0.02 * cut.scale + 0.01)
    assert down == pytest.approx(cut.size[1], abs=0.02 * cut.scale + 0.01)
    assert (right - left) >= picture[0] - 0.01 or (bottom - top) >= picture[1] - 0.01


def test_a_cut_follows_its_focus_as_far_as_the_picture_reaches() -> None:
    picture, bucket = (2000, 1000), (512, 512)

    assert fit(picture, bucket).box == (500, 0, 1500, 1000)
    assert fit(picture, bucket, focus=(700, 400)).box == (200, 0, 1200, 1000)
    assert fit(picture, bucket, focus=(1990, 400)).box == (1000, 0, 2000, 1000)


def test_a_picture_one_pixel_short_has_to_be_enlarged() -> None:
    assert fit((512, 800), (512, 512)).scale == 1
    assert fit((511, 800), (512, 512)).scale > 1
