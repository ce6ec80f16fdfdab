from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorareg.errors import LoraregError
from lorareg.registry.ids import MAX_SLUG, AssetId, Ref

SLUGS = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True)
NUMBERS = st.integers(0, 10**6)
VERSIONS = st.builds("v{}.{}.{}".format, NUMBERS, NUMBERS, NUMBERS)

REFUSED = [
    "", "/", "a/", "/a", "a//b", "a/b/c",
    "../a", "a/..", "a/../b", "./a", "/etc/passwd", "C:/a", "C:\\a", "a\\b",
    "a/b\n", "a\n/b", "a/b\x00", " a/b", "a/b ", "a /b",
    "Character/zhangsan", "character/Zhang", "character/张三", "角色/a", "a/ｂ", "a/b\u0301",
    "-a/b", "a/-b", "_a/b", "a/.b", "a/b.c", "a:b/c", "a/b~1", "a/b^", "a/b?", "a/b*",
    "a/" + "b" * (MAX_SLUG + 1),
]  # fmt: skip


@given(SLUGS, SLUGS)
def test_an_asset_id_reads_back_as_it_prints(kind: str, name: str) -> None:
    asset = AssetId(kind, name)

    assert AssetId.parse(str(asset)) == asset


@given(st.none() | SLUGS, SLUGS, st.none() | SLUGS | VERSIONS)
def test_a_reference_reads_back_as_it_prints(kind: str | None, name: str, at: str | None) -> None:
    ref = Ref(kind, name, at)

    assert Ref.parse(str(ref)) == ref
    assert str(Ref.parse(str(ref))) == str(ref)


@given(st.text(max_size=40))
def test_any_text_is_a_reference_that_prints_as_itself_or_is_refused(text: str) -> None:
    try:
        ref = Ref.parse(text)
    except LoraregError:
        return

    assert str(ref) == text


@pytest.mark.parametrize("text", REFUSED)
def test_a_name_that_is_no_slug_is_refused_with_a_remedy(text: str) -> None:
    for parse in (AssetId.parse, Ref.parse):
        with pytest.raises(LoraregError) as caught:
            parse(text)
        assert caught.value.fix
        assert "\n" not in caught.value.what, "control characters are escaped in messages"


def test_a_name_in_chinese_is_refused_with_a_word_on_the_title() -> None:
    with pytest.raises(LoraregError) as caught:
        AssetId.parse("character/张三")

    assert "title" in caught.value.fix


@pytest.mark.parametrize(
    "at",
    ["", "1.2.0", "v1.2", "v1.2.0.1", "v01.2.0", "v1.2.0-rc1", "v1.٠.0", "v1.2.0\n", "STABLE",
     "stable@v1.0.0", "../stable", "v" + "9" * 70 + ".0.0"],
)  # fmt: skip
def test_what_is_neither_version_nor_channel_is_refused(at: str) -> None:
    with pytest.raises(LoraregError, match="is no version, range or channel"):
        Ref.parse(f"character/zhangsan@{at}")


def test_a_reference_tells_versions_from_channels() -> None:
    version = Ref.parse("character/zhangsan@v1.2.0")
    channel = Ref.parse("zhangsan@stable")

    assert (version.version, version.channel) == ("v1.2.0", None)
    assert (channel.version, channel.channel) == (None, "stable")
    assert (channel.kind, channel.name) == (None, "zhangsan")
