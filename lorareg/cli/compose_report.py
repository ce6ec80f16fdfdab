"""``lorareg compose report``: everything known about a composition, as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorareg.cli.options import complete_ref
from lorareg.cli.root import out
from lorareg.cli.show import Json, as_json, note, warn
from lorareg.registry.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorareg.trainers.report.composition.absent import Absent
    from lorareg.trainers.report.composition.preview import Preview
    from lorareg.trainers.report.composition.sheet import Sheet


def report(
    expression: Annotated[
        str,
        typer.Argument(
            metavar="REF|EXPR",
            help="A recipe, or style/ink:0.7+character/zhangsan:0.9.",
            autocompletion=complete_ref,
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.html", help="Default: its name, here."),
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROMPT",
            help="Generate with this prompt: base, each part alone, all. May be repeated.",
        ),
    ] = None,
    survival: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="What lorareg compose evaluate --out wrote."),
    ] = None,
    json: Json = False,
) -> None:
    """Write a report: members, checks, terms, conflicts, sizes, previews, survival, exports.

    One HTML file that loads nothing, to be sent and kept. What was not run says so.

    Example:
        lorareg compose report recipe/ink-zhangsan --grid "zzhangsan, portrait"
    """
    from dataclasses import replace

    from lorareg.registry.files import write_atomically
    from lorareg.trainers.report.composition import measured, page
    from lorareg.trainers.report.composition.sheet import gather

    workspace = Workspace.find()
    sheet = gather(workspace, expression)
    if survival:
        sheet = replace(sheet, survival=measured.read(survival, sheet.composition))
    if grid:
        sheet = replace(sheet, preview=_preview(workspace, sheet, grid))
    path = to or Path(f"{sheet.slug}.html")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page.render(sheet))
    if json:
        hard, soft = len(sheet.report.hard), len(sheet.report.soft)
        as_json({"path": str(path), "allowed": not hard, "refused": hard, "warnings": soft})
    else:
        out.print(f"wrote {path}", markup=False)


def _preview(workspace: Workspace, sheet: Sheet, prompts: Sequence[str]) -> Preview | Absent:
    """The grid, or why there is none: a report without one is still a report."""
    from lorareg.errors import LoraregError
    from lorareg.trainers.report.composition.absent import Absent

    if sheet.report.hard:
        return Absent("Not run: these adapters may not be composed.")
    note("loading libraries")
    from lorareg.trainers.report.composition.preview import preview

    try:
        return preview(workspace, sheet.composition, prompts, note)
    except LoraregError as error:
        warn(f"no preview: {error.what}")
        return Absent(f"Not run: {error.sentence}", error.fix)
