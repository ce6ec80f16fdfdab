"""A WD14-class tagger reads pictures and names tags as those who trained it do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorareg.errors import InvalidFileError, NotFoundError
from lorareg.trainers.data.label import models, tagger
from lorareg.trainers.data.label.captioner import Asking
from tests.trainers.captioning import BLUE, GREEN, GREY, RED
from tests.trainers.tiny_tagger import SIDE, TAGS, confidences, make_tagger, write_tags

COLOURS = {"red": RED, "blue": BLUE, "green": GREEN, "grey": GREY}


def load(folder: Path, asking: Asking = Asking()) -> tagger.Tagger:  # noqa: B008  (frozen)
    return tagger.load(models.locate(str(folder)), asking)


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (20, 20)) -> Image.Image:
    return Image.new("RGB", size, colour)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tagger(tmp_path_factory.mktemp("models") / "tagger")


@pytest.mark.parametrize(
    ("colour", "tags"),
    [
        ("red", "red coat, bright (light)"),
        ("blue", "hatsune miku, blue sky, bright (light)"),
        ("green", ">_<, bright (light)"),
        ("grey", "bright (light)"),
    ],
)
def test_the_tags_are_those_of_the_colour(folder: Path, colour: str, tags: str) -> None:
    assert load(folder).caption([plain(COLOURS[colour])]) == [tags]


def test_a_rating_is_no_tag(folder: Path) -> None:
    assert "rating" not in load(folder, Asking(threshold=0.0)).caption([plain(RED)])[0]


def test_a_character_needs_more_than_a_general_tag(folder: Path) -> None:
    # a blue of which the model is 0.7 sure that it is Miku, and surer that it is the sky
    uncertain = (20, 20, 131)
    sure = dict(zip((name for name, *_ in TAGS), confidences(131, 20, 20), strict=True))

    said = load(folder).caption([plain(uncertain)])

    assert 0.35 < sure["hatsune_miku"] < 0.85
    assert said == ["blue sky, bright (light)"]


def test_the_threshold_can_be_set(folder: Path) -> None:
    assert load(folder, Asking(threshold=0.6)).caption([plain(RED)]) == ["red coat"]


def test_pixels_are_blue_first_from_0_to_255() -> None:
    pixels = tagger.as_read(plain((200, 100, 50)), SIDE)

    assert pixels.dtype == np.float32
    assert pixels.shape == (SIDE, SIDE, 3)
    assert pixels[0, 0].tolist() == [50, 100, 200]


def test_a_wide_picture_is_padded_with_white_not_squeezed() -> None:
    pixels = tagger.as_read(plain((0, 0, 0), (64, 32)), SIDE)

    assert (pixels[0] == 255).all()
    assert (pixels[SIDE // 2] == 0).all()
    assert (pixels[-1] == 255).all()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_model_for_one_batch_size_labels_any_number(tmp_path: Path, count: int) -> None:
    colours = [RED, BLUE, GREEN][:count]
    fixed = load(make_tagger(tmp_path / "fixed", batch=2))
    free = load(make_tagger(tmp_path / "free"))

    images = [plain(colour) for colour in colours]

    assert fixed.caption(images) == free.caption(images)


def test_a_model_is_named_by_folder_or_file(folder: Path) -> None:
    by_folder, by_file = models.locate(str(folder)), models.locate(str(folder / "model.onnx"))

    assert by_folder.family == by_file.family == "onnx"
    assert by_folder.name == by_file.name
    assert by_folder.name.startswith("tagger@sha256:")


def test_the_name_changes_with_the_tags(folder: Path, tmp_path: Path) -> None:
    other = make_tagger(tmp_path / "tagger")
    write_tags(other, [(name.upper(), category) for name, category, *_ in TAGS])

    assert models.locate(str(other)).name != models.locate(str(folder)).name


def test_tags_that_are_not_beside_the_model_are_missed(tmp_path: Path) -> None:
    (make_tagger(tmp_path / "tagger") / "selected_tags.csv").unlink()

    with pytest.raises(NotFoundError, match=r"selected_tags\.csv"):
        load(tmp_path / "tagger")


def test_tags_of_another_model_are_refused(tmp_path: Path) -> None:
    folder = make_tagger(tmp_path / "tagger")
    write_tags(folder, [("cat", "0"), ("dog", "0")])

    with pytest.raises(InvalidFileError) as refusal:
        load(folder)

    assert "6 outputs" in refusal.value.why
    assert "2 tags" in refusal.value.why


def test_a_table_without_categories_is_refused(tmp_path: Path) -> None:
    folder = make_tagger(tmp_path / "tagger")
    (folder / "selected_tags.csv").write_text("tag_id,tag\n1,cat\n")

    with pytest.raises(InvalidFileError, match="not a tagger's table"):
        load(folder)


def test_a_model_that_reads_no_colours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFileError, match="cannot be used as a tagger"):
        load(make_tagger(tmp_path / "grey", channels=1))


@pytest.mark.parametrize("data", [b"", b"no model", b"\x08\x09\x3a\x04\x0a\x02\x0a"])
def test_a_broken_model_is_refused(tmp_path: Path, data: bytes) -> None:
    folder = make_tagger(tmp_path / "tagger")
    (folder / "model.onnx").write_bytes(data)

    with pytest.raises(InvalidFileError, match="cannot be used as a tagger"):
        load(folder)


@pytest.mark.parametrize(
    "face", ["0_0", "(o)_(o)", "+_+", "+_-", "._.", "<o>_<o>", "<|>_<|>", "=_=", ">_<", "3_3",
             "6_9", ">_o", "@_@", "^_^", "o_o", "u_u", "x_x", "|_|", "||_||"],
)  # fmt: skip
def test_faces_keep_their_underscore(face: str) -> None:
    assert tagger.words_of(face) == face


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("1girl", "1girl"),
        ("long_hair", "long hair"),
        ("v-neck", "v-neck"),
        ("t-shirt_under_coat", "t-shirt under coat"),
        ("saber_(fate)", "saber (fate)"),
        ("one_eye_closed", "one eye closed"),
        ("k_bare_(artist)", "k bare (artist)"),
    ],
)
def test_words_get_spaces(tag: str, words: str) -> None:
    assert tagger.words_of(tag) == words
