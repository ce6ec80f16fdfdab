"""Answers on stdout: columns line up whatever is written, and nothing acts on a terminal."""

from __future__ import annotations

import json

import pytest
from rich.cells import cell_len

from lorareg.cli.show import rows_as_json, table

TEXTS = (
    "zhangsan", "张三 · Zhang San", "カナ", "café", "cafe\u0301", "한국",
    "\U0001f469\u200d\U0001f680 pilot",
    "ｗｉｄｅ",
)  # fmt: skip


def test_columns_line_up_for_every_script(capsys: pytest.CaptureFixture[str]) -> None:
    table(("name", "kind"), [(text, "|") for text in TEXTS])

    lines = capsys.readouterr().out.splitlines()[1:]
    assert len({cell_len(line.partition("|")[0]) for line in lines}) == 1


def test_rows_as_json_are_one_document_with_a_row_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [{"title": text} for text in (*TEXTS, "a\x1b[2J\u202eb\x7f")]

    rows_as_json(rows)

    out = capsys.readouterr().out
    assert json.loads(out) == rows
    assert len(out.splitlines()) == len(rows) + 2
    assert not set("\x1b\u202e\x7f") & set(out)


def test_no_rows_are_an_empty_document(capsys: pytest.CaptureFixture[str]) -> None:
    rows_as_json([])

    assert json.loads(capsys.readouterr().out) == []
