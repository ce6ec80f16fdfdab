"""What a dataset looks like in numbers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorareg.registry import datacard
from lorareg.trainers.data.check import statistics, terms

SIZES = {"a": (512, 512), "b": (512, 768), "c": (1024, 576), "d": (2000, 1500), "e": (300, 100)}
CAPTIONS = {"a": "mira, red coat", "b": "mira, blue coat, smiling", "c": "mira", "d": " ", "e": ""}


def test_pictures_are_counted_by_side_aspect_and_caption() -> None:
    found = statistics.of_pictures(SIZES, CAPTIONS, duplicates_removed=2)

    assert found["pictures"] == 5
    assert found["captions"] == 3
    assert found["duplicates_removed"] == 2
    assert dict(found["shorter_side"]) == {
        "64-127": 1, "128-255": 0, "256-511": 0, "512-767": 3, "768-1023": 0, "1024-1535": 1,
    }  # fmt: skip
    assert dict(found["aspect"]) == {
        "tall, about 2:3": 1, "about square": 1, "wide, about 3:2": 1, "2:1 or wider": 2,
    }  # fmt: skip
    assert found["caption_length"] == {"unit": "words", "min": 1, "median": 3, "p95": 4, "max": 4}
    assert found["top_terms"] == [["mira", 3], ["blue coat", 1], ["red coat", 1], ["smiling", 1]]


def test_caption_length_is_in_tokens_where_they_are_counted() -> None:
    found = statistics.of_pictures(SIZES, CAPTIONS, {"a": 7, "b": 90, "c": 3})

    assert found["caption_length"] == {
        "unit": "tokens",
        "min": 3,
        "median": 7,
        "p95": 90,
        "max": 90,
    }


def test_dialogues_are_counted_by_tokens_and_answers() -> None:
    found = statistics.of_dialogues([10, 33, 40, 70], [1, 1, 2, 3])

    assert dict(found["tokens"]["histogram"]) == {
        "below 16": 1, "16-31": 0, "32-63": 2, "64-127": 1,
    }  # fmt: skip
    assert found["tokens"]["total"] == 153
    assert found["answers"] == {
        "min": 1, "median": 1, "p95": 3, "max": 3, "histogram": [["1", 2], ["2", 1], ["3-4", 1]],
    }  # fmt: skip
    assert "duplicates_removed" not in found


def test_an_empty_dataset_has_numbers_too() -> None:
    pictures, dialogues = statistics.of_pictures({}, {}), statistics.of_dialogues([], [])

    assert datacard.markdown(pictures) == ["0 pictures, 0 captions.", ""]
    assert datacard.markdown(dialogues) == ["0 dialogues.", ""]


def test_the_card_shows_a_bar_a_row_the_longest_for_the_most() -> None:
    lines = datacard.markdown(statistics.of_pictures(SIZES, CAPTIONS, duplicates_removed=0))

    assert lines[0] == "5 pictures, 3 captions, 0 duplicates removed."
    assert f"| 512-767 | 3 | {'█' * 24} |" in lines
    assert f"| mira | 3 | {'█' * 24} |" in lines
    assert f"| red coat | 1 | {'█' * 8} |" in lines


@pytest.mark.parametrize(
    "markup", ["<img src=x>", "**bold**", "[x](http://y)", "`rm`", "&lt;", "@all"]
)
def test_a_caption_cannot_put_markup_into_the_card(markup: str) -> None:
    lines = datacard.markdown(statistics.of_pictures({}, {"a": markup}))

    row = next(line for line in lines if line.endswith("█ |"))
    name, *rest = row.removeprefix("| ").split(" | ")
    assert len(rest) == 2
    assert not set(name.replace("&#", "")) & set("<>|[]()`@*")


def test_a_term_counts_once_a_caption_and_stop_words_do_not() -> None:
    captions = ["the cat, the cat, cat", "a photo of the cat on a mat near the door"]

    assert terms.top(captions, 3) == [("cat", 2), ("door", 1), ("mat", 1)]


def test_chinese_tags_are_terms_and_sentences_give_what_they_share() -> None:
    captions = [
        "张三，红色外套，站在科幻实验室的金属台前",
        "张三正在科幻实验室里操作全息显示屏的控制面板",
        "zhangsan、科幻实验室、金属台",
    ]

    found = dict(terms.top(captions, 20))

    assert found["科幻实验室"] == 3
    assert (found["金属台"], found["张三"]) == (2, 2)
    assert (found["红色外套"], found["zhangsan"]) == (1, 1)
    assert "实验室" not in found  # only ever inside the longer one


@given(st.lists(st.text(max_size=80), max_size=8))
def test_any_captions_give_json_and_a_table_of_three_columns(captions: list[str]) -> None:
    table = {str(number): text for number, text in enumerate(captions)}

    found = statistics.of_pictures({}, table)

    assert json.loads(json.dumps(found)) == found
    assert found == statistics.of_pictures({}, dict(reversed(table.items())))
    for line in datacard.markdown(found):
        assert "\n" not in line
        assert not line.startswith("|") or line.count("|") == 4
