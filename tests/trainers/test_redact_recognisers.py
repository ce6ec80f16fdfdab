"""What counts as personal data, in English and Chinese, and what only looks like it."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.redaction import measure, rates
from benchmarks.redaction_lines import lines
from lorareg.trainers.data.redact import personal
from lorareg.trainers.data.redact.span import Span, settle


def found(text: str) -> list[tuple[str, str]]:
    return [(span.kind, text[span.start : span.end]) for span in personal.find(text)]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("write to jane.doe+x@mail.example.co.uk.", "EMAIL", "jane.doe+x@mail.example.co.uk"),
        ("邮箱是zhang@qq.com，谢谢", "EMAIL", "zhang@qq.com"),
        ("see https://a.example/u?id=7).", "URL", "https://a.example/u?id=7"),
        ("详情见https://a.example/u。", "URL", "https://a.example/u"),
        ("ping 203.0.113.9 now", "IP", "203.0.113.9"),
        ("ping 2001:db8::8a2e:370:7334 now", "IP", "2001:db8::8a2e:370:7334"),
        ("it is (415) 555-0132 ext. 12", "PHONE", "(415) 555-0132 ext. 12"),
        ("it is +44 20 7946 0958", "PHONE", "+44 20 7946 0958"),
        ("打13812345678找我", "PHONE", "13812345678"),
        ("打１３８ １２３４ ５６７８找我", "PHONE", "１３８ １２３４ ５６７８"),
        ("座机010-62345678转", "PHONE", "010-62345678"),
        ("身份证11010519491231002X。", "NATIONAL_ID", "11010519491231002X"),
        ("身份证号是110105194912310021", "NATIONAL_ID", "110105194912310021"),  # mistyped
        ("my SSN: 536-22-8726", "NATIONAL_ID", "536-22-8726"),
        ("pay 4111 1111 1111 1111", "BANK_CARD", "4111 1111 1111 1111"),
        ("打到6222021234567890128", "BANK_CARD", "6222021234567890128"),
        ("to GB82 WEST 1234 5698 7654 32", "IBAN", "GB82 WEST 1234 5698 7654 32"),
        ("代码91350100M000100Y43", "CREDIT_CODE", "91350100M000100Y43"),
        ("车牌京A·12345的车", "PLATE", "京A·12345"),
        ("passport no. X1234567", "PASSPORT", "X1234567"),
        ("护照号E12345678", "PASSPORT", "E12345678"),
        ("MRN: 00482913", "MEDICAL_RECORD", "00482913"),
        ("住院号：ZY0048291", "MEDICAL_RECORD", "ZY0048291"),
        ("born on March 3rd, 1985 in", "BIRTHDATE", "March 3rd, 1985"),
        ("出生日期：1985年3月3日", "BIRTHDATE", "1985年3月3日"),
        ("她1985年3月3日出生", "BIRTHDATE", "1985年3月3日"),
        ("加我微信sunny_2020吧", "ACCOUNT", "sunny_2020"),
        ("QQ：123456789", "ACCOUNT", "123456789"),
        ("at 12 Baker St., Apt 4, Springfield, IL 62704!", "ADDRESS", None),
        ("寄到浙江省杭州市西湖区文三路478号，谢谢", "ADDRESS", "浙江省杭州市西湖区文三路478号"),
        ("家住杭州市西湖区", "ADDRESS", "杭州市西湖区"),
    ],
)  # fmt: skip
def test_each_form_of_personal_data_is_found_whole(text: str, kind: str, value: str | None) -> None:
    expected = value or "12 Baker St., Apt 4, Springfield, IL 62704"

    assert found(text) == [(kind, expected)]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("My name is Chinedu Okafor.", ["Chinedu Okafor"]),
        ("my name is john, hi", ["john"]),
        ("Dear Ms. O'Connor,", ["O'Connor"]),
        ("I met Priya Raghunathan and Jean-Luc Moreau.", ["Priya Raghunathan", "Jean-Luc Moreau"]),
        ("Grace Miller's dog", ["Grace Miller"]),
        ("Robert J. Hughes called", ["Robert J. Hughes"]),
        ("The tenant Xyloph Qworty left.", ["Xyloph Qworty"]),
        ("我叫张伟，三十岁", ["张伟"]),
        ("姓名：高兴", ["高兴"]),
        ("患者欧阳文静，女", ["欧阳文静"]),
        ("王医生说可以", ["王"]),
        ("请转告孙浩然先生", ["孙浩然"]),
        ("李娜和刘洋来了", ["李娜", "刘洋"]),
    ],
)
def test_names_are_found_by_lists_and_by_what_is_around_them(text: str, names: list[str]) -> None:
    assert found(text) == [("NAME", name) for name in names]


@pytest.mark.parametrize(
    "text",
    [
        "In May we Will see a Rose.",
        "Paris is the capital of France, Jordan is a country.",
        "Order 20230415123456 ships on 2024-05-01.",
        "Version 1.2.3.4 costs $4,111.11.",
        "ISBN 978-3-16148-410-0",
        "item 4111 1111 1111 1112",
        "item GB82 WEST 1234 5698 7654 33",
        "Section 12 Main Street",
        "function(name: String, id: number)",
        "std::vector<int> a::b",
        "localhost is 127.0.0.1",
        "她高兴地张开双臂，王国里的人都很安静",
        "编号110105194912310021查不到",
        "语文老师和数学老师都来了",
        "从广州市到深圳市坐高铁要半小时",
        "2024年5月1日开会，价格¥123.45",
        "我是安全员，他是金牛座。",
        "[NAME_1] lives at [ADDRESS_2]; 电话[PHONE_1]",
    ],
)
def test_what_only_looks_like_personal_data_is_left(text: str) -> None:
    assert found(text) == []


def test_a_scan_counts_only_what_is_beyond_doubt() -> None:
    text = "Charles Darwin wrote to user@example.com, see https://a.example and 10.0.0.1."

    assert len(personal.find(text)) == 4
    assert personal.scan(text) == {}
    assert personal.scan("My name is Ann Lee, call 415-555-0132") == {"NAME": 1, "PHONE": 1}


def test_a_span_that_sticks_out_of_a_longer_one_leaves_nothing_behind() -> None:
    spans = [Span(4, 9, "NAME"), Span(0, 6, "PHONE"), Span(20, 22, "IP")]

    assert settle(spans) == [Span(0, 9, "PHONE"), Span(20, 22, "IP")]


def test_a_span_inside_a_longer_one_does_not_hide_where_that_one_ends() -> None:
    spans = [Span(0, 10, "ADDRESS"), Span(2, 3, "NAME"), Span(8, 12, "PHONE")]

    assert settle(spans) == [Span(0, 12, "ADDRESS")]


@given(st.text(st.sampled_from("A ab1-.+@:/()东张路号省市年月日我叫\n'说"), max_size=60))
def test_spans_are_in_order_disjoint_and_inside_the_text(text: str) -> None:
    spans = personal.find(text)

    assert all(0 <= span.start < span.end <= len(text) for span in spans)
    assert all(a.end <= b.start for a, b in zip(spans, spans[1:], strict=False))


@pytest.mark.parametrize(
    "piece",
    ["1号", "a", "1", "路", "A ", "Ab ", "1-", "中", "1 Ab ", "张", "a@", "a.", "http://", ":",
     "年", "my name is ", "电话", "+1", "王医生", "省市区", "born ", "A-", "张·"],
)  # fmt: skip
def test_no_text_makes_the_patterns_slow(piece: str) -> None:
    text = piece * (20_000 // len(piece))
    personal.find("warm 张")

    start = time.process_time()
    personal.find(text)

    assert time.process_time() - start < 2.0


def test_a_scan_loads_no_heavy_library() -> None:
    code = (
        "import sys\n"
        "from lorareg.trainers.data.redact.personal import scan\n"
        "scan('我叫张伟 and my name is Ann')\n"
        "print(sorted({'torch', 'spacy', 'transformers', 'phonenumbers'} & sys.modules.keys()))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_recall_and_precision_on_the_planted_lines_stay_well_above_a_floor() -> None:
    held_out = [line for line in lines() if line.half == "held out"]

    tally = measure(personal.find, held_out)

    for language in ("en", "zh"):
        rate = rates(tally, lambda key, language=language: key[1] == language)
        assert rate["recall"] > 0.85
        assert rate["precision"] > 0.85
