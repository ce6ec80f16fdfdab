"""``lorareg compose evaluate``: how much of each member a composition keeps."""

from __future__ import annotations

import json as jsonlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorareg.cli.compose_check import checked
from lorareg.cli.options import ExprArgument
from lorareg.cli.root import err, out
from lorareg.cli.show import Json, as_json, note, table
from lorareg.registry.workspace import Workspace

if TYPE_CHECKING:
    from lorareg.trainers.evaluation.survival import Interval, Survival
    from lorareg.weights.members import Composition

LOSSES = ("base", "solo", "composed", "without")


def evaluate(
    expression: ExprArgument,
    min_survival: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Exit 1 if a member keeps less, or cannot be measured."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.json", help="Write the figures there too.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure what is left of each adapter, on the records that its training held out.

    Survival is the share of its gain over the base that the composition keeps: 1 is all of what it
    does alone, 0 is nothing. Attribution is what the loss would gain if it were left out.

    Example:
        lorareg compose evaluate style/ink:0.7+character/zhangsan:0.9 --min-survival 0.5
    """
    from lorareg.registry.expression import Expression
    from lorareg.weights import members

    workspace = Workspace.find()
    composition = members.resolve(workspace, Expression.parse(expression))
    checked(workspace, composition)
    note("loading libraries")
    from lorareg.trainers.evaluation import measure
    from lorareg.trainers.evaluation.survival import headline

    found = measure.evaluate(workspace, composition, _tell)
    least = headline(found)
    document = _document(composition, found, least)
    if to:
        _write(to, document)
    if json:
        as_json(document)
    else:
        _show(found, least)
    if min_survival is not None and (least is None or least < min_survival):
        err.print(f"[red]below --min-survival {min_survival:g}[/]", highlight=False)
        raise typer.Exit(1)


def _tell(what: str, done: int, total: int) -> None:
    if done == 0 or what.startswith("records of"):
        note(what)


def _write(path: Path, document: dict[str, Any]) -> None:
    from lorareg.registry.files import write_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, jsonlib.dumps(document, ensure_ascii=False, indent=2) + "\n")


def _document(
    composition: Composition, found: list[Survival], least: float | None
) -> dict[str, Any]:
    from lorareg.weights.checks.run import written

    pins = {
        part.state.ref: part.lock.outputs[part.file.name].tensors for part in composition.components
    }
    return {
        "expression": "+".join(map(str, written(composition))),
        "base": composition.base.model_dump(mode="json"),
        "method": composition.method.model_dump(mode="json"),
        "survival": least,
        "members": [{**asdict(each), "tensors": pins[each.ref]} for each in found],
    }


def _show(found: list[Survival], least: float | None) -> None:
    table(
        ("member", "records", *LOSSES, "survival", "attribution"),
        [
            (
                each.ref,
                str(each.records),
                *(_loss(each.losses.get(name)) for name in LOSSES),
                _interval(each.survival, "unmeasurable", ".2f"),
                _interval(each.attribution, "", "+.4f"),
            )
            for each in found
        ],
    )
    if least is not None:
        out.print(f"survival {least:.2f}: the least of all members", highlight=False)
        return
    for each in found:
        if each.survival is None:
            out.print(
                f"{each.ref} is unmeasurable: alone it does not better the base on its "
                f"{each.records} held-out records by more than chance",
                highlight=False,
            )


def _loss(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _interval(found: Interval | None, absent: str, form: str) -> str:
    if found is None:
        return absent
    return f"{found.value:{form}} ({found.low:{form}} to {found.high:{form}})"
