from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorareg.errors import InvalidFileError
from lorareg.registry.paths import inside, resolve_inside

REFUSED = [
    "", ".", "./", "..", "../a", "a/..", "a/../../b", "./..", "a/b/../../..",
    "/", "/etc/passwd", "//server/share", "~", "~/a", "~root/a", "./~/a", "./C:a",
    "C:", "C:a", "c:/a", "C:\\a", "a\\b", "..\\a", "\\\\server\\share",
    "a\nb", "a\tb", "a\x00b", "a\rb", "\x1b[2J", "a\x7f",
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("data/a", "data/a"),
        ("./data//a/", "data/a"),
        ("data/./a", "data/a"),
        ("数据/张三", "数据/张三"),
        ("a b", "a b"),
        ("..a/b..", "..a/b.."),
        ("ab:c", "ab:c"),
    ],
)
def test_a_path_in_the_registry_is_brought_to_normal_form(text: str, normal: str) -> None:
    assert inside(text) == normal


@pytest.mark.parametrize("text", REFUSED)
def test_a_path_that_may_lead_out_is_refused_with_a_remedy(registry: Path, text: str) -> None:
    with pytest.raises(ValueError, match="write|empty"):
        inside(text)
    with pytest.raises(InvalidFileError) as caught:
        resolve_inside(registry, text)
    assert caught.value.why
    assert caught.value.fix
    assert "\n" not in caught.value.what


@given(st.text(max_size=30))
def test_no_text_leads_out_of_the_registry(text: str) -> None:
    top = Path("/registry")
    try:
        path = top / inside(text)
    except ValueError:
        return

    assert path != top
    assert ".." not in path.parts
    assert path.is_relative_to(top)
    assert inside(inside(text)) == inside(text)


def test_a_path_need_not_exist(registry: Path) -> None:
    assert resolve_inside(registry, "data/later") == registry / "data/later"


def test_a_link_within_the_registry_is_followed(registry: Path) -> None:
    (registry / "data").mkdir()
    (registry / "link").symlink_to("data")

    assert resolve_inside(registry, "link/a") == registry / "link/a"


@pytest.mark.parametrize("target", ["..", "/etc", "../registry2"])
def test_a_link_that_leads_out_is_refused(registry: Path, target: str) -> None:
    (registry / "data").symlink_to(target)

    with pytest.raises(InvalidFileError, match="refused") as caught:
        resolve_inside(registry, "data/passwd")

    assert "link" in caught.value.why


def test_a_link_to_itself_is_refused(registry: Path) -> None:
    (registry / "data").symlink_to("data")

    with pytest.raises(InvalidFileError):
        resolve_inside(registry, "data/a")
