"""Close hashes are found, all of them, and the thumbnails decide which pictures are one."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageEnhance

from lorareg.trainers.data.check import alike, similar
from lorareg.trainers.data.check.probe import Facts, probe
from tests.trainers.check_photos import photo

HASH = st.integers(0, 2**64 - 1)


def compared_one_by_one(hashes: dict[str, int], distance: int) -> list[tuple[str, ...]]:
    left = set(hashes)
    found = []
    while left:
        group, reached = set(), {min(left)}
        while reached:
            group |= reached
            reached = {
                other
                for other in left - group
                if any((hashes[one] ^ hashes[other]).bit_count() <= distance for one in reached)
            }
        left -= group
        found.append(tuple(sorted(group)))
    return sorted(group for group in found if len(group) > 1)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(HASH, min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.sets(st.integers(0, 63), max_size=30)), max_size=30),
    st.integers(0, 24),
)
def test_no_close_pair_is_missed_and_none_is_invented(
    centres: list[int], flips: list[tuple[int, set[int]]], distance: int
) -> None:
    near = [centres[c % len(centres)] ^ sum(1 << bit for bit in bits) for c, bits in flips]
    hashes = {f"{n:02}": value for n, value in enumerate([*centres, *near])}

    assert similar.groups(hashes, distance) == compared_one_by_one(hashes, distance)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300_000), st.integers(0, 64))
def test_chunks_cover_all_bits_and_their_radii_leave_no_gap(count: int, distance: int) -> None:
    chunks = similar._chunks(count, distance)

    assert sum(width for width, _ in chunks) == similar.BITS
    # Were every chunk to differ in one bit more than its radius, more than the distance would.
    assert sum(radius + 1 for _, radius in chunks) > distance


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 255), min_size=1, max_size=40), st.integers(-1, 4))
def test_keys_that_differ_in_a_radius_are_looked_up_each_once(keys: list[int], radius: int) -> None:
    near = similar._near(np.array(keys, dtype=np.int64), 8, radius)

    found = [tuple(sorted(pair)) for one, other in near for pair in zip(one, other, strict=True)]

    assert sorted(found) == [
        (i, j)
        for i, one in enumerate(keys)
        for j, other in enumerate(keys)
        if i < j and (one ^ other).bit_count() <= radius
    ]


@pytest.mark.parametrize("hashes", [{}, {"a": 5}])
def test_none_and_one_have_no_group(hashes: dict[str, int]) -> None:
    assert similar.groups(hashes, 8) == []


def test_all_equal_is_one_group_at_once() -> None:
    start = time.perf_counter()

    found = similar.groups({f"{number:05}": 7 for number in range(50_000)}, 8)

    assert [len(group) for group in found] == [50_000]
    assert time.perf_counter() - start < 5


def test_planted_pairs_among_many_are_found_fast() -> None:
    random = np.random.default_rng(0)
    values = random.integers(0, 2**64, 20_000, dtype=np.uint64, endpoint=False)
    hashes = {f"{number:05}": int(value) for number, value in enumerate(values)}
    for number in range(50):
        hashes[f"copy of {number}"] = int(values[number]) ^ 0x0101010101010101 << number % 8
    start = time.perf_counter()

    found = similar.groups(hashes, 8)

    assert time.perf_counter() - start < 5
    assert found == sorted((f"{number:05}", f"copy of {number}") for number in range(50))


def face(background: str, hair: str, mouth: int) -> Image.Image:
    """A drawing of one character in one pose, 64x64."""
    image = Image.new("RGB", (64, 64), background)
    draw = ImageDraw.Draw(image)
    draw.ellipse((14, 10, 50, 58), fill="bisque", outline="black")
    draw.pieslice((12, 6, 52, 46), 180, 360, fill=hair)
    for x in (24, 38):
        draw.ellipse((x, 30, x + 3, 34), fill="black")
    draw.arc((24, 38, 40, 38 + 2 * mouth), 0, 180, fill="black", width=2)
    return image


def grouped(folder: Path, images: dict[str, Image.Image]) -> list[tuple[str, ...]]:
    facts: dict[str, Facts] = {}
    for name, image in images.items():
        image.save(folder / f"{name}.png")
        facts[name] = probe(folder / f"{name}.png")
    return alike.groups(facts)


def test_drawings_of_one_character_in_one_pose_are_different_pictures(tmp_path: Path) -> None:
    drawings = {
        "plain": face("lightblue", "brown", 5),
        "other background": face("lightpink", "brown", 5),
        "other hair": face("lightblue", "teal", 5),
        "other mouth": face("lightblue", "brown", 1),
    }

    assert grouped(tmp_path, drawings) == []


def test_colours_of_one_lightness_are_different_pictures(tmp_path: Path) -> None:
    drawing = face("lightblue", "brown", 5)
    light, blue, red = drawing.convert("YCbCr").split()
    recoloured = Image.merge("YCbCr", (light, red, blue)).convert("RGB")

    assert grouped(tmp_path, {"drawing": drawing, "recoloured": recoloured}) == []


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "cropped": lambda image: image.crop((6, 5, image.width - 6, image.height - 5)),
    "pale": lambda image: ImageEnhance.Contrast(image).enhance(0.8),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.9),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_changed_copy_of_a_photograph_is_the_same_picture(
    tmp_path: Path, change: str, seed: int
) -> None:
    whole = photo(seed, (384, 320))

    found = grouped(
        tmp_path, {"copy": CHANGES[change](whole), "other": photo(9), "whole": whole}
    )  # fmt: skip

    assert found == [("copy", "whole")]


def test_a_group_is_held_together_by_its_members(tmp_path: Path) -> None:
    whole = photo(4, (384, 320))
    steps = {f"{n}": ImageEnhance.Brightness(whole).enhance(1 - n / 14) for n in range(4)}

    assert grouped(tmp_path, steps) == [("0", "1", "2", "3")]
