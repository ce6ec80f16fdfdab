"""``lorareg compose check``, and the checks that every composition passes before it is built."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorareg.cli.options import ExprArgument
from lorareg.cli.root import out
from lorareg.cli.show import Json, as_json, warn
from lorareg.registry.finding import Finding
from lorareg.registry.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lorareg.registry.access.grants import Use
    from lorareg.weights.checks.run import Report
    from lorareg.weights.conflict import Conflicts, Overlap
    from lorareg.weights.members import Composition

Strict = Annotated[bool, typer.Option("--strict", help="Take warnings for refusals.")]


def check(
    expression: ExprArgument,
    strict: Strict = False,
    heatmap: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw how much each pair overlaps in each block."),
    ] = None,
    json: Json = False,
) -> None:
    """Say whether adapters may be composed, and whether they will hurt each other.

    Exit status 1 if not; with --strict also for a warning. Nothing is built.

    Example:
        lorareg compose check style/ink:0.7+character/zhangsan:0.9 --heatmap overlap.png
    """
    from lorareg.registry.expression import Expression
    from lorareg.weights import members
    from lorareg.weights.checks import run

    workspace = Workspace.find()
    composition = members.resolve(workspace, Expression.parse(expression))
    report = run.check(workspace, composition, strict=strict)
    if heatmap and report.conflicts:
        from lorareg.trainers.report.heatmap import draw

        draw(heatmap, report.conflicts)
    if json:
        as_json(_document(composition, report))
    else:
        _show(composition, report)
    if report.hard:
        raise typer.Exit(1)


def checked(
    workspace: Workspace,
    composition: Composition,
    *,
    strict: bool = False,
    merged: bool = False,
    use: Use = "compose",
) -> Report:
    """Check a composition that is about to be used, and print its warnings on stderr.

    Raises:
        LoraregError: something is hard; it names every such problem.
    """
    from lorareg.weights.checks import run

    report = run.check(workspace, composition, strict=strict, merged=merged, use=use)
    report.refuse()
    for finding in report.soft:
        warn(sentence(finding))
    return report


def _show(composition: Composition, report: Report) -> None:
    for warning in composition.warnings:
        warn(warning)
    for line in _lines(report.conflicts) if report.conflicts else ():
        out.print(line, markup=False)
    for finding in report.findings:
        color, word = _mark(finding)
        out.print(f"[{color}]{word}[/]", end=" ")
        detail = sentence(finding).removeprefix(f"{finding.what}: ")
        out.print(f"{finding.what}  {detail}", markup=False)
    terms = report.terms.document()
    credits = terms.pop("credits")
    told = {key.replace("_", " "): value for key, value in terms.items() if value}
    shown = ", ".join(f"{key}: {_plain(value)}" for key, value in told.items())
    out.print(f"terms  {shown}", markup=False)
    for line in credits:
        out.print(f"  credit {line}", markup=False)


def _lines(conflicts: Conflicts) -> Iterator[str]:
    for pair in conflicts.pairs:
        start = ", from a common start" if pair.has_common_start else ""
        yield (
            f"{conflicts.names[pair.one]} and {conflicts.names[pair.other]}: "
            f"cosine {pair.cosine:+.3f}, strength {pair.whole.ratio:.2f} to 1, "
            f"{pair.coverage:.0%} of their modules in common; "
            f"write alike {_overlap(pair.whole.output)}, "
            f"read alike {_overlap(pair.whole.input)}{start}"
        )
    if conflicts.pairs:
        yield f"amplification {conflicts.amplification:.2f}"


def _overlap(overlap: Overlap) -> str:
    return f"{overlap.share:.0%} ({overlap.times:.1f} x chance)"


def _mark(finding: Finding) -> tuple[str, str]:
    if finding.ok:
        return "green", "ok     "
    return ("red", "refused") if finding.is_hard else ("yellow", "warning")


def sentence(finding: Finding) -> str:
    """What was found, and what to do about it, in one line."""
    fix = f"; {'try ' if finding.fix.startswith(('-', chr(39))) else ''}{finding.fix}"
    return f"{finding.what}: {finding.detail}{fix if finding.fix and not finding.ok else ''}"


def _plain(value: Any) -> str:
    if value is True:
        return "yes"
    return ", ".join(value) if isinstance(value, list) else str(value)


def _document(composition: Composition, report: Report) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "expression": composition.expression,
        "allowed": not report.hard,
        "warnings": list(composition.warnings),
        "findings": [vars(finding) for finding in report.findings],
        "terms": report.terms.document(),
        "conflicts": asdict(report.conflicts) if report.conflicts else None,
    }
