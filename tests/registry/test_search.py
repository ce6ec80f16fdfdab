"""Finding assets by words."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from lorareg.registry.catalog import Row
from lorareg.registry.search import search
from tests.flows.conftest import lorareg

DEFAULTS: dict[str, Any] = {
    "title": {}, "task": "text-to-image", "base": "builtin:avatar", "trigger": None, "rank": 8,
    "scale": 1.0, "visibility": "team", "trained": True, "version": None,
}  # fmt: skip


def row(asset: str, **told: Any) -> Row:
    return Row(asset=asset, **DEFAULTS | told)


ROWS = [
    row("character/zhangsan", title={"zh": "张三", "en": "Zhang San"}, trigger="zzhangsan"),
    row("character/lisi", title={"zh": "李四"}, description="the friend of zhangsan"),
    row("style/ink", title={"en": "Ink"}, owners=["alice", "group:styles"], license="CC0-1.0"),
    row("style/ink-line", base="stabilityai/sdxl"),
    row("recipe/hero", base="style/ink:0.5+character/zhangsan:1", task="recipe"),
]


def names(text: str) -> list[str]:
    return [hit.row.asset for hit in search(ROWS, text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("张三", ["character/zhangsan"]),
        ("四", ["character/lisi"]),
        ("ＺＨＡＮＧ", ["character/zhangsan", "recipe/hero", "character/lisi"]),
        ("alice", ["style/ink"]),
        ("cc0", ["style/ink"]),
        ("sdxl", ["style/ink-line"]),
        ("friend", ["character/lisi"]),
        ("recipe", ["recipe/hero"]),
        ("style cc0", ["style/ink"]),
        ("style nothing", []),
        ("", []),
    ],
)
def test_every_word_must_stand_somewhere(text: str, found: list[str]) -> None:
    assert names(text) == found


def test_the_whole_name_comes_before_a_part_of_one() -> None:
    assert names("ink") == ["style/ink", "style/ink-line", "recipe/hero"]


def test_a_name_comes_before_a_trigger_a_title_and_a_description() -> None:
    rows = [
        row("a/d", description="moss"),
        row("a/c", title={"en": "Moss"}),
        row("a/b", trigger="moss"),
        row("a/moss-2"),
    ]

    assert [hit.row.asset for hit in search(rows, "moss")] == ["a/moss-2", "a/b", "a/c", "a/d"]


def test_the_order_does_not_depend_on_that_of_the_rows_or_the_words() -> None:
    forth = [hit.row.asset for hit in search(ROWS, "zhang character")]
    back = [hit.row.asset for hit in search(ROWS[::-1], "character zhang")]

    assert forth == back


def test_ten_thousand_assets_take_a_moment() -> None:
    rows = [row(f"character/c{n}", title={"zh": f"角色{n}"}, description="x" * 80)
            for n in range(10_000)]  # fmt: skip

    start = time.perf_counter()
    found = search(rows, "角色99 builtin")

    assert len(found) == 111
    assert time.perf_counter() - start < 1.0


def write(registry: Path, description: str) -> None:
    folder = registry / "manifests" / "style" / "ink"
    folder.mkdir(parents=True, exist_ok=True)
    text = f"kind: style\nname: ink\ntitle: {{zh: 墨线}}\ndescription: {description}\n"
    (folder / "manifest.yaml").write_text(text + "owners: [alice]\n", encoding="utf-8")


def test_the_command_reads_manifests_as_they_are_now(registry: Path) -> None:
    write(registry, "thin lines")
    before = lorareg(registry, "search", "墨线", "thin", "--json")
    write(registry, "broad brushes")
    none, now = lorareg(registry, "search", "thin"), lorareg(registry, "search", "broad")

    assert before.json[0]["found"] == {"墨线": "title", "thin": "description"}
    assert (none.code, none.out) == (1, "")
    assert "nothing fits" in none.err
    assert "style/ink" in now.out
