"""Planted trigger clashes, read by the tokenizer of the built-in base."""

from __future__ import annotations

import pytest

from lorareg.registry import triggers
from lorareg.registry.bases import builtin, tokenizer
from lorareg.registry.bases.tokenizer import Reader


@pytest.fixture(scope="module")
def readers() -> list[Reader]:
    return tokenizer.readers("diffusers", builtin.avatar())


def check(first: str, second: str, readers: list[Reader]) -> list[tuple[bool, bool, str]]:
    found = triggers.check({"style/a": first, "style/b": second}, readers)
    return [(each.ok, each.is_hard, each.detail) for each in found]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("zzhangsan", "zzhangsan", "share the trigger"),
        ("zzhangsan", " ZZhangsan", "share the trigger"),
        ("zzhang-san", "zzhang - san", "as the same tokens"),
        ("<s0> man", "<s0><s1>", "learned token <s0>"),
    ],
)
def test_triggers_that_the_base_cannot_tell_apart_are_refused(
    first: str, second: str, said: str, readers: list[Reader]
) -> None:
    found = check(first, second, readers)

    assert found[0][:2] == (False, True)
    assert said in found[0][2]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("zzhangsan", "zzhang", "begins with the other"),
        ("ink lorelei", "lorelei", "contains the other"),
        ("zzhangwei", "zzhangsan", "both begin with the tokens zz ha ng"),
    ],
)
def test_triggers_that_resemble_each_other_are_a_warning(
    first: str, second: str, said: str, readers: list[Reader]
) -> None:
    found = check(first, second, readers)

    assert [each[:2] for each in found] == [(False, False)]
    assert said in found[0][2]


def test_a_word_that_the_base_draws_anyway_is_a_warning(readers: list[Reader]) -> None:
    found = check("glasses", "zzhangsan", readers)

    assert [each[:2] for each in found] == [(False, False)]
    assert "'glasses' of style/a is a common word" in found[0][2]


@pytest.mark.parametrize("triggers", [("zzhangsan", "mmira"), ("lorelei style", "zzhangsan")])
def test_the_triggers_of_the_sample_adapters_clash_with_none(
    triggers: tuple[str, str], readers: list[Reader]
) -> None:
    assert [each[0] for each in check(*triggers, readers)] == [True]


def test_without_a_tokenizer_the_letters_are_compared() -> None:
    assert check("zz", "zz", [])[0][:2] == (False, True)
    assert "no tokenizer" in check("zz", "aa", [])[0][2]


def test_hard_clashes_come_first(readers: list[Reader]) -> None:
    found = triggers.check({"a": "glasses", "b": "zz", "c": "zz"}, readers)

    assert [each.is_hard for each in found] == [True, False]
