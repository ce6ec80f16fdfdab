from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorareg.errors import InvalidFileError, NotFoundError
from lorareg.registry import yamlfile
from lorareg.registry.yamlfile import MAX_BYTES, MAX_DEPTH

NAME = Path("character/manifest.yaml")

SCALARS: dict[str, Any] = {
    "no": "no", "No": "No", "yes": "yes", "on": "on", "off": "off", "y": "y", "n": "n",
    "true": True, "False": False, "TRUE": True, "tRUE": "tRUE",
    "null": None, "~": None, "": None, "Null": None,
    "1": 1, "-1": -1, "+1": 1, "010": 10, "089": 89, "0": 0,
    "1e-4": 1e-4, "1E3": 1000.0, "1.5e-4": 1.5e-4, ".5": 0.5, "5.": 5.0, "-0.3": -0.3,
    "1e+2": 100.0,
    "0o17": "0o17", "0x1F": "0x1F", "0b1": "0b1", "1_000": "1_000", "1:30": "1:30",
    ".inf": ".inf", ".nan": ".nan", "1e": "1e", "e1": "e1", ".": ".",
    "2027-12-31": "2027-12-31", "2027-02-30": "2027-02-30",
    "=": "=", "'1'": "1", '"true"': "true", "'~'": "~", '"\\u5f20"': "张", "张三": "张三",
    "9" * 20: int("9" * 20), "9" * 40: "9" * 40,
    "1" * 20 + "e" + "1" * 19: f"{'1' * 20}e{'1' * 19}",
}  # fmt: skip


def problem(text: str) -> InvalidFileError:
    with pytest.raises(InvalidFileError, match=r"character/manifest\.yaml") as caught:
        yamlfile.parse(text, NAME)
    return caught.value


@pytest.mark.parametrize(("text", "value"), SCALARS.items(), ids=[repr(text) for text in SCALARS])
def test_a_plain_value_means_what_yaml_1_2_says(text: str, value: Any) -> None:
    found = yamlfile.parse(f"key: {text}\n", NAME)["key"]

    assert found == value
    assert type(found) is type(value)


def test_keys_are_always_text() -> None:
    document = yamlfile.parse("1: a\ntrue: b\nnull: c\n1.5: d\non: e\n", NAME)

    assert list(document) == ["1", "true", "null", "1.5", "on"]


def test_blocks_and_flows_are_read_in_order() -> None:
    text = "b: [1, {c: 2}, []]\na:\n  - x: 1\n    y: |\n      two\n      lines\n  - - z\n"

    document = yamlfile.parse(text, NAME)

    assert document == {"b": [1, {"c": 2}, []], "a": [{"x": 1, "y": "two\nlines\n"}, ["z"]]}
    assert list(document) == ["b", "a"]


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("a: 1\na: 2\n", 2, "given twice"),
        ("b:\n  a: 1\n  'a': 2\n", 3, "given twice"),
        ("b: [{a: 1, a: 2}]\n", 1, "given twice"),
        ("1: a\n'1': b\n", 2, "given twice"),
        ("a: &x [1]\nb: *x\n", 1, "aliases"),
        ("a: 1\nb: *a\n", 2, "alias"),
        ("a: 1\nb: &x 2\n", 2, "aliases"),
        ("&x a: 1\n", 1, "aliases"),
        ("a: !!python/object/apply:os.system [ls]\n", 1, "tag"),
        ("a: !!int x\n", 1, "tag"),
        ("a: !!binary x\n", 1, "tag"),
        ("a: !mine {b: 1}\n", 1, "tag"),
        ("!!set {a, b}\n", 1, "tag"),
        ("a:\n\tb: 1\n", 2, "cannot start any token"),
        ("name: {{ template }}\n", 1, "key is a list or mapping"),
        ("? [a]\n: 1\n", 1, "key is a list or mapping"),
        ("a: b: c\n", 1, "not allowed"),
        ("a: [1\nb: 2\n", 2, ""),
        ("a: 'b\n", 2, ""),
        ("a: 1\n---\nb: 2\n", 2, "more than one document"),
        ('a: "\\ud800"\n', 1, "Unicode"),
        ("a: @x\n", 1, "cannot start"),
        ("a: %x\n", 1, "cannot start"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_with_its_line(text: str, line: int, why: str) -> None:
    found = problem(text)

    assert f"manifest.yaml, line {line} is not valid YAML" in found.what
    assert why in found.why
    assert found.fix


@pytest.mark.parametrize("text", ["", "# nothing\n", "a\n", "- a\n", "7\n", "null\n", "---\n...\n"])
def test_a_document_that_is_no_mapping_is_refused(text: str) -> None:
    assert "not a YAML mapping" in problem(text).what


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 200_000,
        "a: " + "{b: " * 100_000,
        "a: " + "[" * 33 + "]" * 33,
        "- " * 100_000 + "a",
        "? " * 100_000 + "a",
        "".join(f"{' ' * depth}a:\n" for depth in range(900)),
    ],
)
def test_deep_nesting_is_refused_and_crashes_nothing(text: str) -> None:
    problem(text)


def test_nesting_as_deep_as_any_manifest_needs_is_read() -> None:
    depth = MAX_DEPTH - 1

    assert yamlfile.parse("a: " + "[" * depth + "]" * depth, NAME)


def test_control_characters_are_refused() -> None:
    assert "not allowed" in problem("a: \x1b[2J\n").why


@given(st.text(max_size=60))
def test_any_text_is_a_mapping_or_refused(text: str) -> None:
    try:
        found = yamlfile.parse(text, NAME)
    except InvalidFileError:
        return

    assert isinstance(found, dict)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_text_written_as_a_value_reads_back_as_itself(text: str) -> None:
    written = yamlfile.as_scalar(text)

    assert yamlfile.scalar(written) == text
    assert yamlfile.parse(f"key: {written}\n", NAME) == {"key": text}


def test_a_value_of_the_command_line_is_read_as_in_a_file() -> None:
    values = [yamlfile.scalar(text) for text in ("16", "1e-4", "no", "[a, b]", "{share: 0.2}", "")]

    assert values == [16, 1e-4, "no", ["a", "b"], {"share": 0.2}, None]
    with pytest.raises(InvalidFileError, match="not a YAML value"):
        yamlfile.scalar("[a")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"there is no manifest\.yaml"):
        yamlfile.load(tmp_path / "manifest.yaml")


@pytest.mark.parametrize(("encoding", "spoken"), [("gbk", "GBK"), ("cp1252", "Windows-1252")])
def test_a_file_in_another_encoding_is_named_with_its_line(
    tmp_path: Path, encoding: str, spoken: str
) -> None:
    text = {"gbk": "a: 1\ntitle: 张三的画\n", "cp1252": "a: 1\ntitle: Müller’s café\n"}[encoding]
    (tmp_path / "manifest.yaml").write_bytes(text.encode(encoding))

    with pytest.raises(InvalidFileError, match="line 2") as caught:
        yamlfile.load(tmp_path / "manifest.yaml")

    assert spoken in caught.value.why


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.yaml").write_bytes(b"a: 1\n#" + b"x" * MAX_BYTES)

    with pytest.raises(InvalidFileError, match="too large"):
        yamlfile.load(tmp_path / "manifest.yaml")


WRITTEN = """\
# the manifest of 张三
schema: lorareg/1
name: "zhangsan"   # the slug
title: {zh: 张三, en: 'Zhang San'}

# how it is trained
lora: {rank: 16, alpha: 32}
train:
  learning_rate: 1.5e-4   # after warm-up
  epochs: 15
owners:
  - alice   # the first
  - group:characters
description: >-
  a man with a red hat
  and a blue coat
long: one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
"""  # noqa: E501


def edited(path: Path, changes: dict[str, Any]) -> str:
    yamlfile.edit(path, changes, lambda document: None)
    return path.read_text(encoding="utf-8")


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "manifest.yaml"
    path.write_text(WRITTEN, encoding="utf-8")
    return path


def test_an_edit_changes_its_line_and_nothing_else(written: Path) -> None:
    text = edited(written, {"train.epochs": 3})

    assert text == WRITTEN.replace("epochs: 15", "epochs: 3")


def test_an_edit_of_nothing_changes_nothing(written: Path) -> None:
    assert edited(written, {}) == WRITTEN


def test_lists_that_are_not_indented_stay_so(written: Path) -> None:
    text = WRITTEN.replace("  - ", "- ")
    written.write_text(text, encoding="utf-8")

    assert edited(written, {"train.epochs": 3}) == text.replace("epochs: 15", "epochs: 3")


def test_an_edit_adds_keys_and_blocks(written: Path) -> None:
    edited(written, {"lora.dropout": 0.1, "dataset.skip": ("a.png", "b.png"), "trigger": "no"})

    document = yamlfile.load(written)
    assert document["lora"] == {"rank": 16, "alpha": 32, "dropout": 0.1}
    assert document["dataset"] == {"skip": ["a.png", "b.png"]}
    assert document["trigger"] == "no"


def test_an_edit_that_is_refused_leaves_the_file(written: Path) -> None:
    def refuse(document: dict[str, Any]) -> None:
        assert document["train"]["epochs"] == -1
        raise InvalidFileError("no")

    with pytest.raises(InvalidFileError, match="no"):
        yamlfile.edit(written, {"train.epochs": -1}, refuse)

    assert written.read_text(encoding="utf-8") == WRITTEN


def test_an_edit_never_replaces_a_value_by_a_mapping(written: Path) -> None:
    with pytest.raises(InvalidFileError, match=r"cannot set name\.first"):
        edited(written, {"name.first": "a"})

    assert written.read_text(encoding="utf-8") == WRITTEN


def test_an_edit_of_a_broken_file_is_refused(written: Path) -> None:
    written.write_text("a: [1\n", encoding="utf-8")

    with pytest.raises(InvalidFileError, match="not valid YAML"):
        edited(written, {"b": 1})
