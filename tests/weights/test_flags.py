"""Each flag is one sentence with a change to paste, and comes for what it is about only."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from lorareg.registry.dvc import pointer
from lorareg.registry.dvc.objects import Objects
from lorareg.registry.expression import Expression, Part
from lorareg.registry.strength import Strength
from lorareg.weights import algebra, conflict
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.flags import Flag, flags
from lorareg.weights.formats import diffusers
from tests.weights.planted import SMALL, attention, sharing

ROOT = Path(__file__).parents[2]
SAMPLES = {
    "character/mira": 0.9, "character/zhangsan": 0.9,
    "style/emoji-line": 0.8, "style/lorelei-ink": 0.8,
}  # fmt: skip


def raised(adapters: list[LoraAdapter], expression: str) -> list[Flag]:
    parts = Expression.parse(expression).parts
    scaled = [algebra.at(a, strength(p)) for a, p in zip(adapters, parts, strict=True)]
    return flags(conflict.examine(scaled, [str(part.ref) for part in parts]), parts)


def strength(part: Part) -> Strength:
    return Strength(1.0 if part.weight is None else part.weight, part.blocks)


def codes(found: list[Flag]) -> list[str]:
    return [flag.code for flag in found]


@pytest.fixture(scope="module")
def samples() -> dict[str, LoraAdapter]:
    """The adapters of this repository, as its own DVC remote holds them."""
    remote = Objects(ROOT / "dvc-remote" / "files" / "md5")
    found = {}
    for name in SAMPLES:
        tracked = pointer.read(ROOT, ROOT / "manifests" / name / "weights.dvc")
        found[name] = diffusers.read(remote.files(tracked)[diffusers.FILE])
    return found


@pytest.mark.parametrize(("one", "other"), list(combinations(SAMPLES, 2)))
def test_sample_adapters_of_one_kind_are_flagged_and_others_are_not(
    one: str, other: str, samples: dict[str, LoraAdapter]
) -> None:
    expression = f"{one}:{SAMPLES[one]}+{other}:{SAMPLES[other]}"

    found = raised([samples[one], samples[other]], expression)

    are_alike = one.partition("/")[0] == other.partition("/")[0]
    assert codes(found) == (["overlap"] if are_alike else [])


@pytest.mark.parametrize(("share", "expected"), [(0.0, []), (0.3, ["overlap"]), (0.8, ["overlap"])])
def test_planted_sharing_is_flagged_and_independence_is_not(
    share: float, expected: list[str]
) -> None:
    assert codes(raised(sharing(attention(), [16, 32], share), "a+b")) == expected


def test_an_overlap_suggests_to_protect_the_weaker() -> None:
    (flag,) = raised(sharing(SMALL, [8, 8], 0.8), "style/ink:0.9+character/zhangsan:0.6")

    assert flag.suggestion == "--method np --protect character/zhangsan"
    assert str(flag).endswith("; try --method np --protect character/zhangsan")
    assert "times chance" in flag.sentence
    assert "\n" not in str(flag)


def test_a_dominant_block_alone_is_weakened() -> None:
    adapters = sharing(SMALL, [4, 4], 0.0)

    (flag,) = raised(adapters, "style/ink:0.9{up.1=6}+character/zhangsan")

    assert flag.code == "dominance"
    assert "style/ink is up to 6.0 times as strong as character/zhangsan (up.1)" in flag.sentence
    assert flag.suggestion == "'style/ink:0.9{up.1=2.0}+character/zhangsan'"
    pasted = Expression.parse(flag.suggestion.strip("'"))
    assert raised(adapters, str(pasted)) == []


def test_a_part_that_dominates_everywhere_is_weakened_as_a_whole() -> None:
    adapters = sharing(SMALL, [4, 4], 0.0)

    (flag,) = raised(adapters, "style/ink:0.2+character/zhangsan")

    assert flag.suggestion == "style/ink:0.2+character/zhangsan:0.4"
    assert raised(adapters, flag.suggestion) == []


def test_a_suggestion_keeps_when_a_part_is_on() -> None:
    adapters = sharing(SMALL, [4, 4], 0.0)

    (flag,) = raised(adapters, "style/ink:4{steps=0-0.6}+character/zhangsan")

    assert flag.suggestion == "'style/ink:2.0{steps=0.0-0.6}+character/zhangsan'"


def test_parts_that_push_the_same_way_are_weakened_together() -> None:
    (one,) = sharing(SMALL, [4], 0.0)

    found = raised([one, one], "a:0.8+b:0.8")

    assert codes(found) == ["amplification", "overlap"]
    assert found[0].suggestion == "a:0.57+b:0.57"
    assert "1.41 times" in found[0].sentence


def test_parts_that_are_never_on_together_raise_nothing() -> None:
    (one,) = sharing(SMALL, [4], 0.0)

    assert raised([one, one], "a{steps=0-0.5}+b{steps=0.5-1}") == []
    assert codes(raised([one, one], "a{steps=0-0.6}+b{steps=0.5-1}")) == [
        "amplification", "overlap"
    ]  # fmt: skip
