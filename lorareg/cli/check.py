"""``lorareg data check``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from lorareg.cli.options import complete_ref
from lorareg.cli.root import err, out
from lorareg.cli.show import Json, as_json, table
from lorareg.cli.watch import RunWatcher
from lorareg.errors import LoraregError
from lorareg.trainers.data.target import resolve

if TYPE_CHECKING:
    from lorareg.trainers.data.check.findings import Finding
    from lorareg.trainers.data.check.report import Report
    from lorareg.trainers.data.vocabulary.fix import FixedCopy

COLORS = {"error": "red", "warning": "yellow", "note": "cyan"}
HEADS = ("group", "term", "captions", "aliased", "share", "verdict")
SHOWN = 20  # findings of a code; --json has all
FILES = 5  # names of one finding


def check(
    target: Annotated[
        str,
        typer.Argument(
            metavar="REF|DIR",
            help="An adapter, a folder, or a .jsonl file.",
            autocompletion=complete_ref,
        ),
    ],
    resolution: Annotated[
        int | None,
        typer.Option(
            min=1, help="Pixels of the shorter side, at least (default: the manifest's, else 512)."
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Base model whose tokenizer counts the captions.")
    ] = None,
    trigger: Annotated[
        str | None, typer.Option(help="The word that every caption should have.")
    ] = None,
    fix: Annotated[
        bool,
        typer.Option(
            "--fix",
            help="Write a copy of the captions with aliases resolved; needs a vocabulary.yaml.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Find every problem of a dataset before a model loads.

    Exit status 1 if it found an error: training would refuse. Warnings and notes give 0.

    Examples:
        lorareg data check character/zhangsan

        lorareg data check data/laboratory --trigger scilab --fix
    """
    from lorareg.trainers.data.check import run
    from lorareg.trainers.data.vocabulary.fix import fix_target

    found = resolve(target)
    if trigger is not None and not trigger.strip():
        raise LoraregError(
            "--trigger is empty",
            why="every caption has the empty word",
            fix="name the word, or leave --trigger out",
        )
    with RunWatcher("check") as watcher:
        report = run.check(
            found, resolution=resolution, base=base, trigger=trigger, stage=watcher.stage
        )
    if not json:
        show_report(report)
    copy = fix_target(found) if fix else None
    if json:
        as_json(report.document() | ({"fixed": copy.document()} if copy else {}))
    elif copy:
        show_copy(copy)
    if report.errors:
        raise typer.Exit(1)


def show_report(report: Report) -> None:
    """Print findings by their code, the coverage of a vocabulary, and one line in the end."""
    from lorareg.trainers.data.check.findings import ordered

    by_code: dict[tuple[str, str], list[Finding]] = {}
    for finding in ordered(report.findings):
        by_code.setdefault((finding.severity, finding.code), []).append(finding)
    for (severity, code), findings in by_code.items():
        out.print(f"[bold {COLORS[severity]}]{severity}[/] [bold]{code}[/] ({len(findings)})")
        _show_findings(sorted(findings, key=_natural))
    if report.coverage:
        table(HEADS, [_row(use) for use in report.coverage])
    _line(report.summary)


def _show_findings(findings: Sequence[Finding]) -> None:
    """Findings of one code, those with the same fix together and above it."""
    by_fix: dict[str, list[Finding]] = {}
    for finding in findings:
        by_fix.setdefault(finding.fix, []).append(finding)
    each = max(1, SHOWN // len(by_fix))
    for fix, group in list(by_fix.items())[:SHOWN]:
        for finding in group[:each]:
            _line(f"  {_names(finding.files)}{finding.why}")
        if len(group) > each:
            _line(f"  ... and {len(group) - each} more")
        if fix:
            out.print("  [green]fix:[/]", end=" ")
            _line(fix)
    if others := sum(map(len, list(by_fix.values())[SHOWN:])):
        _line(f"  ... and {others} more")


def _natural(finding: Finding) -> list[list[tuple[int, str]]]:
    """The order of people: i2 before i10."""
    return [
        [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"(\d+)", name)]
        for name in finding.files
    ]


def _names(files: Sequence[str]) -> str:
    more = f" and {len(files) - FILES} more" if len(files) > FILES else ""
    return f"{', '.join(files[:FILES])}{more}: " if files else ""


def _row(use: Mapping[str, Any]) -> list[str]:
    cells = (f"{use[head]:.1%}" if head == "share" else str(use[head]) for head in HEADS)
    return [escape(cell) for cell in cells]


def show_copy(copy: FixedCopy) -> None:
    """Print what changed, and how to use it."""
    if copy.path is None:
        _line("no caption has an alias; there is nothing to fix")
        return
    for line in copy.diff.rstrip("\n").split("\n"):
        _line(line)
    err.print(f"{copy.captions} captions changed in {copy.path}; to use it:", markup=False)
    err.print(f"  {copy.adopt}", markup=False)


def _line(text: str) -> None:
    """Text of unknown origin: no markup, no :emoji: codes, and control characters are shown."""
    seen = (letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    out.print("".join(seen), markup=False, emoji=False)
