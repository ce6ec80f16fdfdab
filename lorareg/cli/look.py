"""``lorareg list``, ``show``, ``status`` and ``verify``: looking, without torch."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lorareg.cli.options import OptionalRef, RefArgument
from lorareg.cli.root import out
from lorareg.cli.show import Json, as_json, table
from lorareg.cli.show import findings as show_findings
from lorareg.registry.ids import RECIPE, AssetId
from lorareg.registry.workspace import Workspace

COLORS = {"up-to-date": "green", "untrained": "yellow", "missing": "cyan"}


def list_assets(
    kind: Annotated[str | None, typer.Option(help="Only this kind.")] = None, json: Json = False
) -> None:
    """Show every asset of the registry, a line each."""
    from lorareg.registry.catalog import rows

    found = rows(Workspace.find(), kind)
    if json:
        as_json([row.document() for row in found])
        return
    table(
        ("asset", "title", "task", "base", "trigger", "scale", "trained"),
        [row.cells() for row in found],
    )


def show(ref: RefArgument, json: Json = False) -> None:
    """Show one asset: its manifest, its lock and where its files are."""
    from lorareg.registry.lineage import ancestors
    from lorareg.registry.verify import load_any

    workspace = Workspace.find()
    asset = workspace.find_asset(ref)
    wanted = workspace.load_asset(asset)
    untold = {"dataset_", "train"} if getattr(wanted, "origin", None) else set[str]()
    manifest = wanted.model_dump(mode="json", by_alias=True, exclude=untold)
    lock = load_any(workspace, asset)
    facts = lock.model_dump(mode="json", by_alias=True) if lock else None
    line = [parent.ref for parent in ancestors(workspace, lock)] if lock else []
    if json:
        as_json({"asset": str(asset), "manifest": manifest, "lock": facts, "lineage": line})
        return
    out.print(f"[bold]{asset}[/]  manifests/{asset}/manifest.yaml")
    _tree(manifest, 1)
    if line:
        out.print(f"[bold]lineage[/]  {' <- '.join([str(asset), *line])}", highlight=False)
    out.print("[bold]lock[/]" if facts else "[yellow]not trained yet[/]")
    if facts:
        _tree(facts | _counted(facts), 1)


def status(ref: OptionalRef = None, json: Json = False) -> None:
    """Show how adapters stand: untrained, up-to-date, stale, modified or missing, and why.

    Exit status 1 if any is not up to date.
    """
    from lorareg.trainers.changes import status as status_of

    workspace = Workspace.find()
    found = [status_of(workspace, asset) for asset in _adapters(workspace, ref)]
    if json:
        as_json(
            [{"asset": str(s.asset), "state": s.state, "reasons": list(s.reasons)} for s in found]
        )
    else:
        for each in found:
            out.print(f"[{COLORS.get(each.state, 'red')}]{each.state:<11}[/] {each.asset}")
            for reason in each.reasons:
                out.print(f"            {reason}", markup=False)
    if any(each.state != "up-to-date" for each in found):
        raise typer.Exit(1)


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
    if not all(finding.ok for found in findings.values() for finding in found):
        raise typer.Exit(1)


def _adapters(workspace: Workspace, ref: str | None) -> list[AssetId]:
    if ref:
        return [workspace.find_asset(ref)]
    return [asset for asset in workspace.assets() if asset.kind != RECIPE]


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
