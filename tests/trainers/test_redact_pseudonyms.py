"""Placeholders: consistent within a conversation, stable when redacted again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.redaction_lines import lines
from lorareg.trainers.data.redact import personal
from lorareg.trainers.data.redact.pseudonyms import Piece, identity, redact
from lorareg.trainers.data.redact.rows import keys_with_personal_data, redact_row

PLANTED = [line.text for line in lines()]
SNIPPETS = [
    "John Carter", "Mr. ", "Li Hua", "张晓明", "张先生", "晓明", "我叫", "王", "医生", "，", "电话",
    "13812345678", "+1 415 555 0132", "[NAME_1]", "[PHONE_2]", "[", "_1]", "a@b.org", " and ", " ",
    "born on 1985-03-03", "110105", "19491231002X", "12 Baker St", ". ", "my name is ", "NAME_1",
    "https://x.org/",
]  # fmt: skip


def texts(*said: str) -> list[str]:
    return redact([Piece(text) for text in said])[0]


def test_the_same_value_gets_the_same_placeholder_however_it_is_written() -> None:
    assert texts(
        "I am John Carter, call +1 (415) 555-0132 or Jo.Carter@Site.org.",
        "JOHN CARTER? 415.555.0132? jo.carter@site.org? And 415-555-0199?",
    ) == [
        "I am [NAME_1], call [PHONE_1] or [EMAIL_1].",
        "[NAME_1]? [PHONE_1]? [EMAIL_1]? And [PHONE_2]?",
    ]


def test_a_part_of_a_name_means_the_person_who_has_it() -> None:
    assert texts("My friend Li Hua is here.", "Hi Hua! Is it Mr Li?") == [
        "My friend [NAME_1] is here.",
        "Hi [NAME_1]! Is it Mr [NAME_1]?",
    ]
    assert texts("我叫张晓明。", "晓明你好，张先生请坐。张晓明坐下了。") == [
        "我叫[NAME_1]。",
        "[NAME_1]你好，[NAME_1]先生请坐。[NAME_1]坐下了。",
    ]


def test_a_part_that_two_people_share_is_neither_of_them() -> None:
    (text,) = texts("I know Anna Becker and Paul Becker; Mr. Becker called.")

    assert text == "I know [NAME_1] and [NAME_2]; Mr. [NAME_3] called."


def test_numbering_begins_with_one_in_each_conversation_and_counts_in_reading_order() -> None:
    assert texts("a@x.org b@x.org a@x.org") == ["[EMAIL_1] [EMAIL_2] [EMAIL_1]"]
    assert texts("b@x.org") == ["[EMAIL_1]"]


def test_a_number_that_the_text_already_uses_is_not_given_again() -> None:
    assert texts("[EMAIL_4] wrote to c@x.org") == ["[EMAIL_4] wrote to [EMAIL_5]"]


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("PHONE", "+86 138 1234 5678", "13812345678"),
        ("PHONE", "0044 20 7946 0958", "+44 20 79460958"),
        ("BIRTHDATE", "1985年3月3日", "1985-03-03"),
        ("NATIONAL_ID", "11010519491231002x", "110105 19491231 002X"),
        ("BANK_CARD", "4111 1111 1111 1111", "4111-1111-1111-1111"),
        ("IP", "2001:DB8:0:0::1", "2001:db8::1"),
        ("URL", "https://A.example/", "https://a.example"),
    ],
)
def test_ways_of_writing_a_value_are_one_value(kind: str, one: str, other: str) -> None:
    assert identity(kind, one) == identity(kind, other)


@pytest.mark.parametrize("phone", ["13812345678", "14155550132"])
def test_a_chinese_mobile_is_not_taken_for_an_american_number(phone: str) -> None:
    assert identity("PHONE", phone) == phone


@given(st.lists(st.lists(st.sampled_from(SNIPPETS), max_size=8).map("".join), max_size=4))
@settings(max_examples=150, deadline=None)
def test_redacting_twice_is_redacting_once(said: list[str]) -> None:
    once = texts(*said)

    assert texts(*once) == once


def test_every_planted_line_redacted_holds_nothing_that_is_found_again() -> None:
    for text in PLANTED:
        (once,) = texts(text)
        assert texts(once) == [once]
        assert not any("[" not in once[span.start : span.end] for span in personal.find(once)), once


@pytest.mark.parametrize(
    ("row", "redacted"),
    [
        (
            {"instruction": "Mail a@x.org", "input": "", "output": "Done, a@x.org"},
            {"instruction": "Mail [EMAIL_1]", "input": "", "output": "Done, [EMAIL_1]"},
        ),
        (
            {"prompt": "Mail a@x.org", "completion": "No.", "id": 7, "score": 0.25, "ok": True},
            {"prompt": "Mail [EMAIL_1]", "completion": "No.", "id": 7, "score": 0.25, "ok": True},
        ),
        (
            {"messages": [{"role": "user", "content": "我叫张伟"},
                          {"role": "assistant", "content": "张伟好"}]},
            {"messages": [{"role": "user", "content": "我叫[NAME_1]"},
                          {"role": "assistant", "content": "[NAME_1]好"}]},
        ),
        (
            {"conversations": [{"from": "human", "value": "Hi"},
                               {"from": "gpt", "value": "a@x.org"}]},
            {"conversations": [{"from": "human", "value": "Hi"},
                               {"from": "gpt", "value": "[EMAIL_1]"}]},
        ),
        (
            {"prompt": "Hi", "completion": "Yo",
             "meta": {"dob": "1985-03-03", "tel": [13812345678]}},
            {"prompt": "Hi", "completion": "Yo",
             "meta": {"dob": "[BIRTHDATE_1]", "tel": ["[PHONE_1]"]}},
        ),
    ],
)  # fmt: skip
def test_a_row_keeps_its_shape_and_its_other_keys(
    row: dict[str, object], redacted: dict[str, object]
) -> None:
    changed, _ = redact_row(row)

    assert changed == redacted
    assert list(changed) == list(row)


def test_what_is_counted_is_how_much_was_replaced() -> None:
    _, replaced = redact_row({"prompt": "a@x.org and a@x.org", "completion": "+1 415 555 0132"})

    assert replaced == {"EMAIL": 2, "PHONE": 1}


def test_personal_data_in_a_key_is_noticed() -> None:
    row = {"prompt": "Hi", "completion": "Yo", "by": [{"jane@x.org": 1}]}

    assert list(keys_with_personal_data(row)) == ["EMAIL"]
