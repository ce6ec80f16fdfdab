"""Captions as lists of tags: shuffled and thinned, the same way in every run of a seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorareg.registry.image_training import ImageTraining, Tags
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.data.images import ImageRecord
from lorareg.trainers.data.tags import variants
from lorareg.trainers.data.texts import Texts

CAPTION = "zzhangsan, a man, standing, blue coat, city at night"
TAGS = CAPTION.split(", ")
WORDS = st.lists(st.text("abc xyz张三", min_size=1, max_size=6), min_size=1, max_size=8)


def record(name: str, caption: str) -> ImageRecord:
    return ImageRecord(name, Path(name), caption, "sha256:0")


def texts(*captions: str, **changes: object) -> Texts:
    records = [record(f"{number}.png", caption) for number, caption in enumerate(captions)]
    return Texts(records, ImageTraining.model_validate({"caption_dropout": 0.0, **changes}))


def test_the_first_tags_stay_and_the_others_are_shuffled() -> None:
    found = variants(CAPTION, Tags(keep_first=2, variants=32), seed=3)

    assert all(text.startswith("zzhangsan, a man, ") for text in found)
    assert all(sorted(text.split(", ")) == sorted(TAGS) for text in found)
    assert len(set(found)) == 6


@given(WORDS, st.integers(0, 9), st.floats(0, 0.99), st.booleans())
@settings(max_examples=60, derandomize=True)
def test_a_variant_is_made_of_tags_of_its_caption_and_never_empty(
    words: list[str], keep: int, dropout: float, shuffle: bool
) -> None:
    tags = Tags(keep_first=keep, dropout=dropout, shuffle=shuffle, variants=4)
    caption = ",".join(words)
    given_tags = Counter(word.strip() for word in words if word.strip())

    for text in variants(caption, tags, seed=1):
        found = Counter(word.strip() for word in text.split(",") if word.strip())
        assert found <= given_tags
        assert found or not given_tags


def test_each_other_tag_is_left_out_in_its_share() -> None:
    tags = Tags(shuffle=False, dropout=0.25, variants=64)
    found = [text for seed in range(10) for text in variants(CAPTION, tags, seed)]

    shares = [sum(tag in text.split(", ") for text in found) / len(found) for tag in TAGS]

    assert shares[0] == 1.0
    assert shares[1:] == [pytest.approx(0.75, abs=0.06)] * 4


def test_variants_are_a_function_of_seed_and_caption() -> None:
    tags = Tags(dropout=0.2)

    assert variants(CAPTION, tags, 1) == variants(CAPTION, tags, 1)
    assert variants(CAPTION, tags, 1) != variants(CAPTION, tags, 2)
    assert variants(CAPTION, tags, 1) == variants(CAPTION, Tags(dropout=0.2, variants=16), 1)[:8]


@pytest.mark.parametrize("caption", ["a man who stands in a city", "tag", "tag,", ""])
def test_a_caption_that_is_no_list_stays_as_it_is(caption: str) -> None:
    assert variants(caption, Tags(), 1) == (caption,)


@pytest.mark.parametrize(
    ("caption", "separator", "expected"),
    [
        ("张三，男，站立", "，", {"张三，男，站立", "张三，站立，男"}),
        ("张三、男、站立", "、", {"张三、男、站立", "张三、站立、男"}),
        ("a,b,c", ",", {"a,b,c", "a,c,b"}),
        ("a, b, c", ",", {"a, b, c", "a, c, b"}),
        ("a b | c, d | e", "|", {"a b | c, d | e", "a b | e | c, d"}),
    ],
)
def test_tags_are_joined_as_the_caption_joins_them(
    caption: str, separator: str, expected: set[str]
) -> None:
    assert set(variants(caption, Tags(separator=separator, variants=32), 1)) == expected


def test_without_shuffle_and_dropout_a_caption_is_untouched() -> None:
    caption = "a ,b,, c,"

    assert set(variants(caption, Tags(shuffle=False), 1)) == {caption}


def test_every_text_that_is_drawn_was_announced() -> None:
    found = texts(CAPTION, "a man in a city", tags={"dropout": 0.3}, caption_dropout=0.2)

    drawn = {
        found.drawn(name, Draws(1).at("train", step))
        for step in range(200)
        for name in ("0.png", "1.png")
    }

    assert drawn < found.every
    assert {"", "a man in a city"} < drawn
    assert len(drawn) == 2 + len(set(variants(CAPTION, Tags(dropout=0.3), 42)))
    assert CAPTION in found.every


def test_a_draw_belongs_to_its_step_and_its_picture() -> None:
    found = texts(CAPTION, CAPTION, tags={})
    steps = [Draws(1).at("train", step) for step in range(60)]

    first = [found.drawn("0.png", draws) for draws in steps]

    assert first == [found.drawn("0.png", draws) for draws in steps]
    assert first != [found.drawn("1.png", draws) for draws in steps]
    assert len(set(first)) > 4


def test_validation_reads_the_caption_as_written() -> None:
    assert texts(CAPTION, tags={"shuffle": True}).written("0.png") == CAPTION


def test_without_tags_captions_are_the_only_texts_beside_none() -> None:
    found = texts(CAPTION, "other")

    assert found.every == {CAPTION, "other", ""}
    assert found.describe() == []


def test_how_many_variants_there_are_is_said() -> None:
    found = texts(CAPTION, "a man in a city", "b, c", tags={"keep_first": 0, "variants": 4})

    (said,) = found.describe()

    assert said.startswith("captions: 6 variants of 2 with tags")
    assert said.endswith("; without ',', as written: 1")
