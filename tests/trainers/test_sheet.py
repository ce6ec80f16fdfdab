"""The contact sheet of a dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorareg.errors import LoraregError
from lorareg.trainers.data.check.sheet import CELL, GUTTER, chosen, draw

PITCH = CELL + GUTTER


def noise(path: Path, size: tuple[int, int], seed: int) -> Path:
    """As busy as a photograph, which is the worst case for size and palette."""
    coarse = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    return [noise(tmp_path / f"{number:03}.png", (160, 120), number) for number in range(100)]


def test_a_sheet_shows_48_pictures_in_a_small_file(pictures: list[Path], tmp_path: Path) -> None:
    draw(pictures, tmp_path / "sheet.png")

    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (8 * PITCH + GUTTER, 6 * PITCH + GUTTER)
        gutters = np.asarray(sheet.convert("RGB"))[:, PITCH : PITCH + GUTTER]
    assert (gutters == 255).all()
    assert (tmp_path / "sheet.png").stat().st_size < 600_000


def test_pictures_are_chosen_evenly_from_first_to_last() -> None:
    names = [Path(str(number)) for number in range(96)]

    assert chosen(names) == names[::2]
    assert chosen(names[:5]) == names[:5]


def test_equal_pictures_give_equal_bytes_without_metadata(
    pictures: list[Path], tmp_path: Path
) -> None:
    draw(pictures[:9], tmp_path / "one.png")
    draw(pictures[:9], tmp_path / "two.png")

    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as sheet:
        sheet.load()
        assert not sheet.info


def test_a_picture_keeps_its_aspect_in_the_middle_of_its_cell(tmp_path: Path) -> None:
    Image.new("RGB", (400, 100), "red").save(tmp_path / "wide.png")

    draw([tmp_path / "wide.png"], tmp_path / "sheet.png")

    with Image.open(tmp_path / "sheet.png") as sheet:
        red = np.asarray(sheet.convert("RGB"))[:, :, 1] < 128
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    assert (len(columns), len(rows)) == (CELL, CELL // 4)
    assert rows[0] - GUTTER == GUTTER + CELL - 1 - rows[-1]


def test_a_broken_picture_is_a_grey_cell(tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"\x89PNG")

    draw([tmp_path / "torn.png"], tmp_path / "sheet.png")

    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.convert("RGB").getpixel((PITCH // 2, PITCH // 2)) == (221, 221, 221)


def test_no_picture_gives_an_empty_sheet(tmp_path: Path) -> None:
    draw([], tmp_path / "sheet.png")

    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (PITCH + GUTTER, PITCH + GUTTER)


def test_a_sheet_that_cannot_be_written_leaves_the_old_one(
    pictures: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "sheet.png" / "in the way").mkdir(parents=True)

    with pytest.raises(LoraregError, match=r"cannot write sheet\.png"):
        draw(pictures[:1], tmp_path / "sheet.png")

    assert not list(tmp_path.glob("*.tmp"))
