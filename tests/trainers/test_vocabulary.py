"""A vocabulary: what its file may say, how its words are found, what breaks its rules."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorareg.errors import InvalidFileError, NotFoundError
from lorareg.trainers.data.check.findings import Finding
from lorareg.trainers.data.vocabulary import coverage, rules
from lorareg.trainers.data.vocabulary.matching import Matcher, Phrase, Words, contains
from lorareg.trainers.data.vocabulary.schema import Vocabulary

LABORATORY = """
schema: lorareg/vocabulary/1
opening: ["{trigger}, sci-fi laboratory", "科幻实验室"]
groups:
  materials: {terms: [brushed steel, glass, white polymer], at_least: 1}
  light: {terms: [fluorescent light, 冷光], exclusive: true}
  devices: {terms: [microscope, control panel]}
aliases: {fluoro light: fluorescent light, 荧光灯: 冷光}
banned: [8k, masterpiece]
at_least_one_of: [[microscope, light]]
"""


def vocabulary(tmp_path: Path, text: str = LABORATORY) -> Vocabulary:
    path = tmp_path / "vocabulary.yaml"
    path.write_text(text, encoding="utf-8")
    return Vocabulary.load(path)


def found(text: str, *phrases: str) -> list[str]:
    """What of a text is found, as it is written there."""
    matches = Matcher([Phrase("term", phrase, phrase) for phrase in phrases]).find(text)
    return [text[match.start : match.end] for match in matches]


def broken(words: Vocabulary, captions: dict[str, str], trigger: str | None) -> list[Finding]:
    matches = {name: words.find(text) for name, text in captions.items()}
    return rules.findings(words, captions, matches, trigger)


def codes(words: Vocabulary, caption: str, trigger: str | None = "scilab") -> dict[str, str]:
    return {f.code: f.why for f in broken(words, {"img01.png": caption}, trigger)}


@pytest.mark.parametrize(
    ("text", "phrase", "expected"),
    [
        ("a lightning, a light", "light", ["light"]),
        ("Sci_Fi LAB", "sci-fi lab", ["Sci_Fi LAB"]),
        ("red, light", "red light", []),
        ("two beakers", "beaker", ["beakers"]),
        ("glasses", "glass", []),
        ("an as", "a", []),
        ("一盏LED灯亮着", "LED", ["LED"]),
        ("一盏荧光灯亮着", "荧光灯", ["荧光灯"]),
        ("ＬＥＤ　灯", "led灯", ["ＬＥＤ　灯"]),
        (
            unicodedata.normalize("NFD", "a café here"),
            "café",
            [unicodedata.normalize("NFD", "café")],
        ),
        ("한글 실험실에서", unicodedata.normalize("NFD", "실험실"), ["실험실"]),
        ("the worker’s coat", "worker's coat", ["worker’s coat"]),
        ("at 1:1 scale", "1:1", ["1:1"]),
        ("at 11 scale", "1:1", []),
        ("a ﬁne ﬂask…", "flask", ["ﬂask"]),
        ("a 50㎏ box", "50kg", ["50㎏"]),
    ],
)
def test_a_phrase_is_found_as_whole_words_in_any_spelling(
    text: str, phrase: str, expected: list[str]
) -> None:
    assert found(text, phrase) == expected


def test_the_longest_phrase_wins_and_none_is_found_within_another() -> None:
    assert found("荧光灯和灯", "灯", "荧光灯") == ["荧光灯", "灯"]
    assert found("荧光灯和荧光", "荧光", "荧光灯") == ["荧光灯", "荧光"]
    assert found("white glass tube, glass", "glass", "white glass") == ["white glass", "glass"]
    assert found("glass tube, glass", "glass", "glass tube") == ["glass tube", "glass"]


def test_a_phrase_of_the_list_goes_before_the_plural_of_another() -> None:
    (match,) = Matcher([Phrase("term", "light", "1"), Phrase("term", "lights", "2")]).find("lights")

    assert (match.phrase.meaning, match.plural) == ("2", False)


@given(st.text(), st.text(min_size=1))
def test_a_phrase_that_is_there_is_found_whatever_is_around_it(around: str, phrase: str) -> None:
    text = f"{around}, {phrase}, {around}"

    assert contains(text, phrase)


@given(st.text())
def test_words_stand_where_their_spans_say(text: str) -> None:
    words = Words.of(text)

    for index, word in enumerate(words.words):
        start, end = words.span(index, index)
        assert word in "".join(Words.of(text[start:end]).words)


def test_a_vocabulary_gives_terms_groups_and_what_a_caption_says(tmp_path: Path) -> None:
    words = vocabulary(tmp_path)

    assert words.terms()[:4] == ("brushed steel", "glass", "white polymer", "fluorescent light")
    assert words.groups["light"].exclusive
    assert words.said("Fluoro lights, glass, 8k, 荧光灯") == ("fluorescent light", "glass", "冷光")
    assert words.missing_groups("a microscope") == ("materials",)
    assert words.missing_groups("glass") == ()


def test_completions_begin_with_what_was_typed_and_know_aliases(tmp_path: Path) -> None:
    words = vocabulary(tmp_path)

    assert words.completions("") == ()
    assert words.completions("Flu") == ("fluorescent light",)
    assert words.completions("p") == ("white polymer", "control panel")
    assert words.completions("荧") == ("冷光",)
    assert words.completions("steel") == ("brushed steel",)


def test_every_contradiction_of_a_file_is_named_at_once(tmp_path: Path) -> None:
    text = """
schema: lorareg/vocabulary/1
opening: ["{trigger} {x}, 8k", a fluoro light]
groups:
  materials: {terms: [brushed steel, glass, Glass], at_least: 9}
  light: {terms: [fluorescent light, glass], exclusive: true, at_least: 2}
  glass: {terms: [vial]}
aliases: {fluoro light: fluorescent lihgt, 8K: glass, _: glass}
banned: [8k]
at_least_one_of: [[glas, lights, vial, glass]]
"""

    with pytest.raises(InvalidFileError) as caught:
        vocabulary(tmp_path, text)

    assert caught.value.what.endswith("vocabulary.yaml has 13 problems")
    for part in (
        "'_' is an alias of 'glass', and has no letter or digit to be found by",
        "'Glass' is a term of materials, and again (as 'glass')",
        "'glass' is a term of light, and a term of materials",
        "'8k' is banned, and an alias of 'glass' (as '8K')",
        "'fluorescent lihgt' is no term; did you mean 'fluorescent light'?",
        "'glas' is neither a term nor a group; did you mean 'glass'?",
        "'lights' is neither a term nor a group; did you mean 'light'?",
        "'glass' is a term and a group; rename the group",
        "groups.materials: at_least is 9, of 3 terms",
        "groups.light: it is exclusive, so at_least cannot be 2",
        "{trigger} is the only placeholder",
        "opening 'a fluoro light': 'fluoro light' is an alias",
        "'8K' is an alias of 'glass'",
    ):
        assert part in caught.value.why


def test_an_unknown_key_and_a_wrong_value_are_named_with_a_hint(tmp_path: Path) -> None:
    text = """
schema: lorareg/vocabulary/1
groups: {light: {term: [daylight]}}
baned: [8k]
aliases: {steel: 7}
"""

    with pytest.raises(InvalidFileError) as caught:
        vocabulary(tmp_path, text)

    assert "baned: unknown key; did you mean banned?" in caught.value.why
    assert "groups.light.terms: missing" in caught.value.why
    assert "aliases.steel" in caught.value.why


def test_the_manifest_names_another_file_and_none_is_none(tmp_path: Path) -> None:
    assert Vocabulary.of(tmp_path, None) is None
    (tmp_path / "words.yaml").write_text(LABORATORY, encoding="utf-8")

    named = Vocabulary.of(tmp_path, "words.yaml")

    assert named is not None
    assert named.banned == ("8k", "masterpiece")
    for name in ("vocabulary.yaml", f"../{tmp_path.name}/words.yaml"):
        with pytest.raises(NotFoundError, match="has no"):
            Vocabulary.of(tmp_path, name)


def test_a_caption_that_keeps_every_rule_gives_no_finding(tmp_path: Path) -> None:
    words = vocabulary(tmp_path)

    assert codes(words, "scilab, sci-fi laboratory, brushed steel, fluorescent light") == {}
    assert codes(words, "科幻实验室，glass，冷光", None) == {}


def test_each_rule_that_a_caption_breaks_is_a_finding_of_its_own(tmp_path: Path) -> None:
    words = vocabulary(tmp_path)

    assert codes(words, "A white room, 8K, fluoro light with 荧光灯") == {
        "vocabulary-opening": "begins with 'A white room, 8K, fluoro light with 荧光灯'",
        "vocabulary-alias": "'fluoro light' stands for 'fluorescent light'; "
        "'荧光灯' stands for '冷光'",
        "vocabulary-banned": "'8k'",
        "vocabulary-missing": "no term of materials",
        "vocabulary-exclusive": "'fluorescent light' and '冷光' exclude each other (light)",
    }
    assert (
        codes(words, "科幻实验室, glass")["vocabulary-missing"] == "none of 'microscope' or 'light'"
    )


def test_an_opening_with_the_trigger_needs_it_in_the_caption(tmp_path: Path) -> None:
    words = vocabulary(tmp_path)
    caption = "sci-fi laboratory, glass, microscope"

    assert set(codes(words, f"scilab, {caption}")) == set()
    assert set(codes(words, caption)) == {"vocabulary-opening"}


def test_openings_that_all_need_an_unknown_trigger_are_left_out_with_a_note(tmp_path: Path) -> None:
    text = LABORATORY.replace(', "科幻实验室"', "")

    (finding,) = broken(vocabulary(tmp_path, text), {"a.png": "glass, microscope"}, None)

    assert (finding.severity, finding.files) == ("note", ())
    assert "--trigger" in finding.fix


def test_coverage_counts_captions_and_says_which_terms_are_rare(tmp_path: Path) -> None:
    words = vocabulary(tmp_path)
    captions = (
        ["glass, glass, fluoro light"] * 3 + ["冷光, 荧光灯"] + ["microscope"] * 2 + ["x"] * 194
    )
    matches = {str(n): words.find(text) for n, text in enumerate(captions)}

    uses = {use.term: use for use in coverage.coverage(words, matches)}
    found = coverage.findings(list(uses.values()), len(captions))

    assert [use.verdict for use in uses.values()].count("never") == 4
    assert (uses["glass"].captions, uses["glass"].share) == (3, 3 / 200)
    assert uses["glass"].verdict == "hardly"  # below 2 % of 200
    assert (uses["fluorescent light"].captions, uses["fluorescent light"].aliased) == (0, 3)
    assert (uses["冷光"].captions, uses["冷光"].aliased) == (1, 0)
    assert "materials: never: brushed steel, white polymer" in found[0].why
    assert "in fewer than 4 of 200 captions: glass (3)" in found[0].why


@pytest.mark.parametrize(("count", "verdict"), [(0, "never"), (2, "hardly"), (3, "fine")])
def test_three_captions_are_enough_in_a_small_dataset(
    tmp_path: Path, count: int, verdict: str
) -> None:
    words = vocabulary(tmp_path)
    captions = ["microscope"] * count + ["x"] * (50 - count)

    uses = coverage.coverage(words, {str(n): words.find(text) for n, text in enumerate(captions)})

    assert next(use.verdict for use in uses if use.term == "microscope") == verdict
