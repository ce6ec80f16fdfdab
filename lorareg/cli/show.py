"""Answers on stdout: a table for people, or one JSON document with ``--json``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from lorareg.cli.root import err, out
from lorareg.registry.finding import Finding

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def as_json(document: Any) -> None:
    """Print a JSON document, in ASCII where stdout cannot say everything."""
    is_utf8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"
    sys.stdout.write(json.dumps(document, ensure_ascii=not is_utf8, indent=2) + "\n")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their heads."""
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
        mark = "[green]ok  [/]" if finding.ok else "[red]FAIL[/]"
        out.print(f"{mark} {of} {finding.what}", end="  ")
        out.print(finding.detail, markup=False)


def note(text: str) -> None:
    """Say something on stderr."""
    err.print(text, markup=False)
