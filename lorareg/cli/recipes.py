"""``lorareg compose verify``, ``upgrade`` and ``explain``: what became of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lorareg.cli.compose_check import checked
from lorareg.cli.options import RefArgument
from lorareg.cli.root import out
from lorareg.cli.show import Json, as_json, findings, note, table, warn
from lorareg.errors import NotFoundError
from lorareg.registry.workspace import Workspace


def verify(
    ref: RefArgument,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="A merge, a file or folder by any tool."),
    ] = None,
    json: Json = False,
) -> None:
    """Check a recipe: its pins, its merged file, and a file that is said to be its merge.

    Exit status 1 if something does not hold.

    Example:
        lorareg compose verify recipe/ink-zhangsan merged.safetensors
    """
    from lorareg.weights import proof
    from lorareg.weights.formats import detect

    workspace = Workspace.find()
    asset = workspace.find_asset(ref)
    found = proof.verify(workspace, asset)
    if file is not None:
        foreign = detect.read(file, proof.locked(workspace, asset).task)
        weights = file / foreign.name if file.is_dir() else file
        found.append(proof.verify_file(workspace, asset, weights, foreign.adapter))
    if json:
        as_json({str(asset): [vars(finding) for finding in found]})
    else:
        findings(str(asset), found)
    if not all(finding.ok for finding in found):
        raise typer.Exit(1)


def upgrade(
    ref: RefArgument,
    dry_run: Annotated[bool, typer.Option(help="Show what would change; write nothing.")] = False,
    json: Json = False,
) -> None:
    """Resolve a recipe anew from its manifest: newer releases, new weights, edited parts.

    The merged file is written again if the recipe has one.
    """
    from lorareg.registry import recipe
    from lorareg.weights import compose, members, proof, recipes

    workspace = Workspace.find()
    asset = workspace.find_asset(ref)
    before = proof.locked(workspace, asset)
    wanted = recipe.load(workspace.folder(asset).manifest, asset)
    composition = members.of_recipe(workspace, wanted)
    report = checked(workspace, composition, merged=bool(before.outputs))
    changes = recipes.changes(before, composition, wanted)
    merged = compose.merge(composition, wanted) if changes else None
    if merged and report.conflicts:
        compose.guard(wanted, merged, report.conflicts.amplification)
    if changes and not dry_run:
        recipes.save(
            workspace, composition, wanted, merged, write_file=bool(before.outputs), overwrite=True
        )
    for warning in composition.warnings:
        warn(warning)
    if json:
        as_json({"asset": str(asset), "changes": [vars(change) for change in changes]})
    elif changes:
        table(
            ("member", "was", "is"),
            [(change.member, change.before, change.after) for change in changes],
        )
    else:
        out.print(f"{asset} is up to date")
    if changes and dry_run:
        note(f"nothing was written; to take it over: lorareg compose upgrade {asset}")


def explain(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A merged .safetensors file.")],
    json: Json = False,
) -> None:
    """Say what a merged file was made of, by its own header, and what the registry knows of it.

    It works outside of a registry too.
    """
    from lorareg.weights import provenance

    told = provenance.read(file)
    try:
        known = provenance.standing(Workspace.find(), told)
    except NotFoundError:
        known = "there is no registry here to compare it with"
    if json:
        as_json({"file": file.name, **told.model_dump(mode="json"), "registry": known})
        return
    out.print(f"{file.name}  {told.asset}  {told.fingerprint}", markup=False)
    out.print(f"base {told.base['model']}  {told.base['digest']}", markup=False)
    table(
        ("member", "weight", "tensors"),
        [(member.ref, str(member.strength), member.tensors) for member in told.members],
    )
    for key, value in told.method.items():
        out.print(f"{key}: {value}", markup=False, highlight=False)
    if told.error:
        out.print(f"relative error to the exact sum: {told.error:.3g}", highlight=False)
    out.print(known, markup=False, highlight=False)
