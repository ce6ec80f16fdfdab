"""channels.yaml: what it may say, what stays when it is edited, and which channels moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorareg.errors import InvalidFileError, LoraregError
from lorareg.registry import yamlfile
from lorareg.registry.ids import AssetId
from lorareg.registry.releases.channelfile import edited
from lorareg.registry.releases.channels import (
    STEPS,
    WHOLE,
    Channel,
    Channels,
    moved,
    parse,
    percent,
    share_of,
)

ZHANGSAN = AssetId("character", "zhangsan")
FILE = Path("zhangsan/channels.yaml")
TEXT = """\
# who gets what
schema: lorareg/1
stable: v1.4.0   # the good one

# tried out
canary:
  version: v1.5.0  # of October
  share: 5%
  salt: s1
  # they asked for it
  allow: [qa]
  guards: [{metric: face_sim, min: 0.82}, {metric: loss, max: 0.3}]

# of the testers
qa: v1.6.0
"""


def channels(text: str) -> Channels:
    return parse("schema: lorareg/1\n" + text, FILE, ZHANGSAN)


def document(text: str) -> dict[str, Any]:
    return yamlfile.parse(text, FILE)


def test_a_channel_is_a_version_or_a_block() -> None:
    found = parse(TEXT, FILE, ZHANGSAN).table

    assert found["stable"] == Channel(version="v1.4.0")
    assert found["canary"].share == 500
    assert [str(guard) for guard in found["canary"].guards] == ["face_sim>=0.82", "loss<=0.3"]
    assert found["canary"].steps == STEPS
    assert not found["qa"].is_gray


@given(points=st.integers(min_value=0, max_value=WHOLE))
def test_every_share_reads_as_it_is_written(points: int) -> None:
    assert share_of(percent(points)) == points


@pytest.mark.parametrize(
    "text", ["5", "101%", "100.01%", "-1%", "0.001%", "05%", "5 %", "%", 5, 0.05]
)
def test_what_is_no_share_in_percent_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="no share"):
        share_of(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("stable: 1.4", "stable: input should be an object"),
        ("stable: v1.4", "stable.version: expected a release: v1.4.0"),
        ("Stable: v1.4.0", "expected"),
        ("stable: v1.0.0\ncanary: {version: v1.1.0, shar: 5%}", "did you mean share?"),
        ("stable: v1.0.0\ncanary: {version: v1.1.0, share: 5%}", "needs a salt"),
        ("stable: v1.0.0\ncanary: {version: v1.1.0, share: 5, salt: s1}", "is no share"),
        ("stable: v1.0.0\ncanary: {version: v1.1.0, salt: 'a|b'}", "letters and digits"),
        ("canary: {version: v1.1.0, share: 5%, salt: s1}", "there is no stable"),
        ("stable: {version: v1.0.0, share: 5%, salt: s1}", "a version and nothing more"),
        (
            "stable: v1.0.0\na: {version: v1.1.0, share: 5%, salt: s1}\n"
            "b: {version: v1.2.0, share: 5%, salt: s2}",
            "a and b: two shares of the same subjects would overlap",
        ),
        ("canary: {version: v1.1.0, guards: [{metric: a}]}", "one of min and max"),
        ("canary: {version: v1.1.0, guards: [{metric: a, min: 1, max: 2}]}", "one of min and max"),
        ("canary: {version: v1.1.0, guards: [{metric: a, min: .nan}]}", "number"),
        ("canary: {version: v1.1.0, steps: [5%, 5%, 100%]}", "steps rise"),
        ("canary: {version: v1.1.0, steps: [5%, 25%]}", "steps rise"),
        ("\n".join(f"c{n}: v1.0.0" for n in range(33)), "at most 32"),
    ],
)
def test_a_file_that_cannot_be_served_is_refused_and_says_why(text: str, problem: str) -> None:
    with pytest.raises(InvalidFileError) as caught:
        channels(text)

    assert problem in caught.value.why
    assert "manifests/character/zhangsan/channels.yaml" in caught.value.what


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(InvalidFileError) as caught:
        channels("stable: v1\ncanary: {version: v2, share: 5}")

    assert caught.value.why.count("\n  - ") == 3


def test_an_edit_changes_its_line_and_nothing_else() -> None:
    before = parse(TEXT, FILE, ZHANGSAN)
    canary = before.table["canary"].model_copy(update={"share": 2500})

    text = edited(TEXT, before.changed("canary", canary), FILE, ZHANGSAN)

    assert text == TEXT.replace("share: 5%", "share: 25%")


def test_a_channel_goes_with_its_lines_and_the_comments_of_others_stay() -> None:
    before = parse(TEXT, FILE, ZHANGSAN)

    text = edited(TEXT, before.changed("canary", None), FILE, ZHANGSAN)

    start, end = TEXT.index("canary:"), TEXT.index("\n# of the testers")
    assert text == TEXT[:start] + TEXT[end:]


@pytest.mark.parametrize(
    "text",
    [
        "{schema: lorareg/1, stable: v1.0.0, canary: v1.1.0}",
        "schema: lorareg/1\n'canary': v1.1.0\nstable: v1.0.0",
        "canary:\n    version: v1.1.0\n\n\nschema: lorareg/1\nstable: v1.0.0\n# end",
    ],
)
def test_a_channel_can_be_removed_however_the_file_is_written(text: str) -> None:
    before = parse(text, FILE, ZHANGSAN)

    after = before.changed("canary", None)

    assert parse(edited(text, after, FILE, ZHANGSAN), FILE, ZHANGSAN) == after


versions = st.builds("v1.{}.0".format, st.integers(min_value=0, max_value=9))
pointers = st.builds(
    lambda version, share, allow: Channel(version=version, salt="s1", allow=allow).model_copy(
        update={"share": share}
    ),
    versions,
    st.integers(min_value=0, max_value=WHOLE),
    st.lists(st.sampled_from(["qa", "5%", "no", "张三", "# x", "007"]), max_size=3).map(tuple),
)


@given(stable=versions, canary=st.none() | pointers, beta=st.none() | versions)
def test_what_is_written_reads_back_the_same(
    stable: str, canary: Channel | None, beta: str | None
) -> None:
    before = parse(TEXT, FILE, ZHANGSAN)
    after = before.changed("stable", Channel(version=stable)).changed("canary", canary)
    after = after.changed("beta", Channel(version=beta) if beta else None)

    assert parse(edited(TEXT, after, FILE, ZHANGSAN), FILE, ZHANGSAN) == after
    assert parse(edited(None, after, FILE, ZHANGSAN), FILE, ZHANGSAN) == after


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("{}", "{stable: v1.0.0}", {"stable"}),
        ("{stable: v1.0.0}", "{schema: x, stable: v1.0.0}", set()),
        ("{stable: v1.0.0, canary: v1.1.0}", "{stable: v1.0.0}", {"canary"}),
        (
            "{stable: v1.0.0, canary: {version: v1.1.0, share: 5%}}",
            "{stable: v1.0.0, canary: {version: v1.1.0, share: 25%}}",
            {"canary"},
        ),
        (  # what everybody gets who asks for stable is another version now
            "{stable: v1.0.0, canary: {version: v1.1.0, share: 25%}}",
            "{stable: v1.0.0, canary: {version: v1.1.0, share: 100%}}",
            {"canary", "stable"},
        ),
        (
            "{stable: v1.0.0, canary: {version: v1.1.0, share: 100%}}",
            "{stable: v1.0.0, canary: {version: v1.2.0, share: 100.00%}}",
            {"canary", "stable"},
        ),
        (  # back to what stable's own people pointed it to
            "{stable: v1.0.0, canary: {version: v1.1.0, share: 100%}}",
            "{stable: v1.0.0}",
            {"canary"},
        ),
        (  # the last step of a rollout is one move
            "{stable: v1.0.0, canary: {version: v1.1.0, share: 100%}}",
            "{stable: v1.1.0}",
            {"stable"},
        ),
        (
            "{stable: v1.0.0, canary: {version: v1.1.0, share: 5%}}",
            "{stable: v1.2.0}",
            {"canary", "stable"},
        ),
        ("{stable: [v1.0.0]}", "{stable: {version: {}}, x: {share: 100%}}", {"stable", "x"}),
    ],
)
def test_which_channels_moved_between_two_states(
    before: str, after: str, expected: set[str]
) -> None:
    assert moved(document(before), document(after)) == expected


def test_a_bomb_is_refused_before_it_goes_off() -> None:
    with pytest.raises(LoraregError):
        parse("schema: &a lorareg/1\nstable: *a\n", FILE, ZHANGSAN)
