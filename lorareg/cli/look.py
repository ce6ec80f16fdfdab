"""``lorareg list``, ``show``, ``status`` and ``verify``: looking, without torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer

from lorareg.cli.asset_view import told
from lorareg.cli.options import OptionalRef, RefArgument
from lorareg.cli.root import out
from lorareg.cli.show import Json, as_json, rows_as_json, table
from lorareg.cli.show import findings as show_findings
from lorareg.registry.ids import Ref
from lorareg.registry.workspace import Workspace

COLORS = {"up-to-date": "green", "untrained": "yellow", "missing": "cyan"}


def list_assets(
    kind: Annotated[str | None, typer.Option(help="Only this kind.")] = None, json: Json = False
) -> None:
    """Show every asset of the registry, a line each."""
    from lorareg.registry.catalog import rows

    workspace = Workspace.find()
    found, revoked = rows(workspace, kind), _revoked(workspace)
    if json:
        rows_as_json([row.document() | {"revoked": revoked.get(row.asset)} for row in found])
        return
    table(
        ("asset", "title", "task", "base", "trigger", "scale", "release", "trained"),
        [(*row.cells()[:-1], "revoked") if row.asset in revoked else row.cells() for row in found],
    )


def _revoked(workspace: Workspace) -> dict[str, str]:
    """Assets that may not be used any more, and why; nothing is imported where there is none."""
    from lorareg.registry.access.marks import marked

    if not marked(workspace):
        return {}
    from lorareg.registry.access.downstream import affected

    return affected(workspace)


def show(ref: RefArgument, json: Json = False) -> None:
    """Show one asset: its manifest, its lock and where its files are."""
    found = told(Workspace.find(), Ref.parse(ref))
    said = found.pop("said")
    if json:
        as_json(found)
        return
    asset, facts, version = found["asset"], found["lock"], found["version"]
    released = f", released as {version}" if version else ""
    out.print(f"[bold]{asset}[/]  manifests/{asset}/manifest.yaml{released}")
    for name, pointer in said["channels"].items():
        out.print(f"  @{name} -> {pointer}", markup=False)
    if found["revoked"]:
        out.print(f"  {found['revoked']}", markup=False, style="red")
    _tree(found["manifest"], 1)
    if found["lineage"]:
        out.print("[bold]lineage[/]", end="  ")
        out.print(" <- ".join([asset, *found["lineage"]]), markup=False)
    for sentence, verified in said["attestations"]:
        out.print(sentence, markup=False, style="" if verified else "yellow")
    out.print("[bold]lock[/]" if facts else "[yellow]not trained yet[/]")
    if facts:
        _tree(facts | _counted(facts), 1)


def status(ref: OptionalRef = None, json: Json = False) -> None:
    """Show how assets stand: untrained, up-to-date, stale, modified, missing or revoked, and why.

    Exit status 1 if any is not up to date.
    """
    from lorareg.trainers.states import States

    workspace = Workspace.find()
    assets = [workspace.find_asset(ref)] if ref else list(workspace.assets())
    found, revoked = list(States(workspace).of(assets)), _revoked(workspace)
    found = [
        replace(each, state="revoked", reasons=(revoked[str(each.asset)], *each.reasons))
        if str(each.asset) in revoked
        else each
        for each in found
    ]
    if json:
        rows_as_json(
            [{"asset": str(s.asset), "state": s.state, "reasons": list(s.reasons)} for s in found]
        )
    else:
        for each in found:
            _show_state(str(each.asset), each.state, each.reasons)
    if any(each.state != "up-to-date" for each in found):
        raise typer.Exit(1)


def _show_state(asset: str, state: str, reasons: Sequence[str]) -> None:
    if out.is_terminal:
        out.print(f"[{COLORS.get(state, 'red')}]{state:<11}[/] {asset}")
    elif not out.quiet:
        sys.stdout.write(f"{state:<11} {asset}\n")  # rich takes a second for 10,000 lines
    for reason in reasons:
        out.print(f"            {reason}", markup=False)


def verify(
    ref: OptionalRef = None,
    quick: Annotated[
        bool, typer.Option(help="Trust digests remembered for files that did not change.")
    ] = False,
    json: Json = False,
) -> None:
    """Recompute every digest that the locks promise. Exit status 1 if one does not hold."""
    from lorareg.registry.verify import verify as check

    workspace = Workspace.find()
    assets = [workspace.find_asset(ref)] if ref else list(workspace.assets())
    findings = {asset: check(workspace, asset, quick=quick) for asset in assets}
    if json:
        as_json({str(asset): [vars(f) for f in found] for asset, found in findings.items()})
    else:
        for asset, found in findings.items():
            show_findings(str(asset), found)
    if any(not each.ok and each.is_hard for found in findings.values() for each in found):
        raise typer.Exit(1)


def _counted(facts: dict[str, Any]) -> dict[str, Any]:
    """In place of a recipe's probes, nine numbers for each module, how many there are."""
    return {"probes": f"of {len(facts['probes'])} modules"} if facts.get("probes") else {}


def _tree(value: Any, depth: int) -> None:
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            out.print(f"{'  ' * depth}{key}:", markup=False)
            _tree(inner, depth + 1)
        elif inner not in (None, {}, [], ""):
            out.print(f"{'  ' * depth}{key}: {inner}", markup=False)
