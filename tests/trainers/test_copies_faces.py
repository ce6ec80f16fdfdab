"""Cuts around a face: Grace Hopper's, in the public domain, which matplotlib brings along."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from lorareg.errors import LoraregError
from lorareg.trainers.data.copies import faces
from lorareg.trainers.data.copies.picture import Job, make
from lorareg.trainers.data.copies.provenance import Copy, Settings

FACE = (262, 218)  # the middle of hers, in the photograph of 512 x 600


def photograph() -> Image.Image:
    from matplotlib.cbook import get_sample_data

    with get_sample_data("grace_hopper.jpg") as stream, Image.open(stream) as image:
        return image.convert("RGB")


def copy_of(image: Image.Image, folder: Path) -> Copy:
    image.save(folder / "a.png")
    settings = Settings(size=256, crop="face")
    made = make(Job("a.png", "sha256:" + "0" * 64, folder / "a.png", None, settings))
    assert isinstance(made, Copy)
    return made


@pytest.fixture
def scene() -> Image.Image:
    """She stands at the right of a grey wall four times as wide as she is."""
    pytest.importorskip("cv2")
    wall = Image.new("RGB", (2048, 600), "grey")
    wall.paste(photograph(), (1400, 0))
    return wall


def test_a_face_is_in_the_middle_of_its_cut(scene: Image.Image, tmp_path: Path) -> None:
    copy = copy_of(scene, tmp_path)

    left, top, right, bottom = copy.box
    assert (copy.centred_on, copy.faces) == ("face", 1)
    assert (left + right) / 2 == pytest.approx(1400 + FACE[0], abs=25)
    assert (right - left, top, bottom) == (600, 0, 600)


def test_of_two_faces_the_larger_is_taken(scene: Image.Image, tmp_path: Path) -> None:
    scene.paste(photograph().resize((256, 300)), (100, 200))

    copy = copy_of(scene, tmp_path)

    assert copy.faces == 2
    assert (copy.box[0] + copy.box[2]) / 2 == pytest.approx(1400 + FACE[0], abs=25)


def test_without_a_face_the_cut_is_centred_and_says_so(scene: Image.Image, tmp_path: Path) -> None:
    copy = copy_of(Image.new("RGB", scene.size, "grey"), tmp_path)

    assert (copy.centred_on, copy.faces) == ("centre", 0)
    assert copy.box == (724, 0, 1324, 600)


def test_a_face_is_found_at_its_place_in_a_picture_too_large_to_be_searched_whole(
    scene: Image.Image,
) -> None:
    large = scene.resize((2 * scene.width, 2 * scene.height))

    (box,) = faces.find(large)

    assert faces.centre(box) == pytest.approx((2 * (1400 + FACE[0]), 2 * FACE[1]), abs=50)


def test_without_opencv_a_face_crop_is_refused_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)

    with pytest.raises(LoraregError, match="no face detector") as caught:
        faces.require()

    assert "pip install 'lorareg[faces]'" in caught.value.fix


def test_an_opencv_without_cascades_is_refused_by_its_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fifth = ModuleType("cv2")
    fifth.__version__ = "5.0.0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cv2", fifth)

    with pytest.raises(LoraregError, match="no face detector") as caught:
        faces.require()

    assert "5.0.0" in caught.value.why
    assert "'opencv-python-headless<5'" in caught.value.fix
