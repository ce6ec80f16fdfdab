"""What a machine said becomes a caption of the dataset: tidy, said once, in the team's words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorareg.trainers.data.label.house_style import HouseStyle
from lorareg.trainers.data.label.wording import joined, phrases, tidy, whole
from lorareg.trainers.data.vocabulary.schema import Vocabulary


def vocabulary(**parts: object) -> Vocabulary:
    return Vocabulary.model_validate({"schema": "lorareg/vocabulary/1", **parts})


LABORATORY = vocabulary(
    opening=("sci-fi laboratory", "实验室"),
    groups={"light": {"terms": ["LED strip", "荧光灯"]}},
    aliases={"neon tube": "LED strip", "日光灯": "荧光灯"},
)


@pytest.mark.parametrize(
    ("before", "more", "after"),
    [
        ("zhangsan", "a red coat", "zhangsan, a red coat"),
        ("zhangsan", "Zhangsan", "zhangsan"),
        ("a man in a red coat", "red coat, smiling", "a man in a red coat, smiling"),
        ("张三，微笑", "微笑, 红色外套", "张三，微笑, 红色外套"),
        ("张三站在窗前。", "红色外套", "张三站在窗前。 红色外套"),
        ("A man.", "A man, in a coat, smiles.", "A man. A man, in a coat, smiles."),
        ("a man,", "smiling", "a man, smiling"),
        ("a lighthouse", "light", "a lighthouse, light"),
        ("", "smiling", "smiling"),
        ("smiling", "", "smiling"),
    ],
)
def test_a_caption_grows_by_what_it_does_not_say_yet(before: str, more: str, after: str) -> None:
    assert joined(before, more) == after


@given(st.text(max_size=40), st.lists(st.text("ab c", min_size=1, max_size=4), max_size=5))
def test_joining_twice_adds_nothing_and_keeps_the_head(head: str, tags: list[str]) -> None:
    once = joined(head, ", ".join(tags))

    assert once.startswith(head.strip())
    assert joined(once, ", ".join(tags)) == once


@given(st.text(max_size=60))
def test_a_tidy_text_is_one_printable_line(text: str) -> None:
    assert tidy(text) == tidy(tidy(text))
    assert tidy(text).isprintable()
    assert "  " not in tidy(text)


@pytest.mark.parametrize(
    ("cut", "kept"),
    [
        ("A coat. It is re", "A coat."),
        ("它是红色的。它挂在", "它是红色的。"),
        ("red coat, blue s", "red coat"),
        ("红色外套，蓝色", "红色外套"),
        ("a man at 3.5 met", "a man at 3.5 met"),
        ("a man", "a man"),
    ],
)
def test_a_cut_text_ends_with_something_whole(cut: str, kept: str) -> None:
    assert whole(cut) == kept


@given(st.text(max_size=60))
def test_a_whole_text_is_a_beginning(text: str) -> None:
    assert text.strip().startswith(whole(text.strip()))


def test_phrases_stand_between_commas_of_both_scripts() -> None:
    assert phrases("a, b，c、d；e") == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("trigger", "said", "caption"),
    [
        (None, "a neon tube", "sci-fi laboratory, a LED strip"),
        ("zhangsan", "glass", "sci-fi laboratory, zhangsan, glass"),
        ("zhangsan", "Sci-Fi laboratory, glass", "sci-fi laboratory, zhangsan, glass"),
        ("张三", "一盏日光灯", "sci-fi laboratory, 张三, 一盏荧光灯"),
        (None, "实验室里的荧光灯", "实验室里的荧光灯"),
    ],
)
def test_opening_trigger_and_terms_are_put_in(trigger: str | None, said: str, caption: str) -> None:
    assert HouseStyle(trigger, LABORATORY).new(said) == caption


def test_an_opening_that_holds_the_trigger_is_the_trigger() -> None:
    style = HouseStyle("zhangsan", vocabulary(opening=("photo of {trigger}",)))

    assert style.new("smiling") == "photo of zhangsan, smiling"


def test_an_opening_that_needs_a_trigger_is_left_out_without_one() -> None:
    assert HouseStyle(None, vocabulary(opening=("photo of {trigger}",))).new("smiling") == "smiling"


def test_every_new_caption_opens_as_the_vocabulary_wants() -> None:
    for trigger in (None, "zhangsan"):
        for said in ("glass", "sci-fi laboratory", "实验室", "zhangsan in a coat"):
            assert LABORATORY.opens(HouseStyle(trigger, LABORATORY).new(said), trigger)
