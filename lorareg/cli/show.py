"""Answers on stdout: a table for people, or one JSON document with ``--json``."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.cells import cell_len

from lorareg.cli.plain import plain, plain_json
from lorareg.cli.root import err, out
from lorareg.registry.finding import Finding

FOLDED_ROWS = 300  # of a table; rich takes a second for some two thousand
HAN_AND_KANA = "\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff"
WIDE = re.compile(f"[{HAN_AND_KANA}]+")
PLAIN_OR_WIDE = re.compile(f"[ -~\u00b7{HAN_AND_KANA}]*")
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def as_json(document: Any) -> None:
    """Print a JSON document, in ASCII where stdout cannot say everything."""
    is_utf8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"
    text = json.dumps(document, ensure_ascii=not is_utf8, indent=2)
    sys.stdout.write(plain_json(text) + "\n")


def rows_as_json(rows: Sequence[Any]) -> None:
    """Print a JSON document that is a list, an element a line: fast to write, easy to grep."""
    is_utf8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"
    encode = json.JSONEncoder(ensure_ascii=not is_utf8).encode
    text = ",\n".join(map(encode, rows))
    sys.stdout.write(f"[\n{plain_json(text)}\n]\n" if rows else "[]\n")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their heads, folded to fit a terminal.

    A long table, and one that goes into a file or a pipe, has a line for each row.
    """
    rows = [[plain(cell) for cell in row] for row in rows]
    if out.is_terminal and len(rows) <= FOLDED_ROWS:
        _folded(heads, rows)
        return
    sheet = [heads, *rows]
    widths = [[_width(cell) for cell in row] for row in sheet]
    widest = [max(column) for column in zip(*widths, strict=True)]
    pads = ([most - own for own, most in zip(row, widest, strict=True)] for row in widths)
    lines = [
        "  ".join(map(_padded, row, pad)).rstrip() for row, pad in zip(sheet, pads, strict=True)
    ]
    if not out.quiet:
        sys.stdout.write("\n".join(lines) + "\n")


def _padded(cell: str, spaces: int) -> str:
    return cell + " " * spaces


def _width(cell: str) -> int:
    """Columns of a terminal that a text takes; rich's own count asks for each character."""
    if cell.isascii():
        return len(cell)
    if PLAIN_OR_WIDE.fullmatch(cell):
        return len(cell) + sum(map(len, WIDE.findall(cell)))
    return cell_len(cell)


def _folded(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    sheet = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        longest = max(map(len, head.split()), default=0)
        sheet.add_column(head, overflow="fold", min_width=longest)
    for row in rows:
        sheet.add_row(*map(Text, row))  # a list such as [to_q, to_k] is no markup
    out.print(sheet)


def findings(of: str, found: Iterable[Finding]) -> None:
    """Print what was checked, a line each."""
    for finding in found:
        bad = "[red]FAIL[/]" if finding.is_hard else "[yellow]warn[/]"
        mark = "[green]ok  [/]" if finding.ok else bad
        out.print(mark, end=" ")
        out.print(f"{of} {finding.what}  {finding.detail}", markup=False)


def warn(text: str) -> None:
    """Say on stderr what somebody should think about."""
    err.print("[yellow]warning[/]", end=" ")
    err.print(text, markup=False)


def note(text: str) -> None:
    """Say something on stderr."""
    err.print(text, markup=False)
