"""``lorareg release`` and ``log``: a signed version of an asset by rule, and what became of it."""

from __future__ import annotations

from typing import Annotated

import typer

from lorareg.cli.options import RefArgument
from lorareg.cli.root import out
from lorareg.cli.show import Json, as_json, note
from lorareg.errors import LoraregError
from lorareg.registry.ids import AssetId
from lorareg.registry.releases.levels import Level
from lorareg.registry.workspace import Workspace

COLORS = {"major": "red", "minor": "yellow", "patch": "green"}


def release(
    ref: RefArgument,
    major: Annotated[bool, typer.Option("--major", help="At least a major step.")] = False,
    minor: Annotated[bool, typer.Option("--minor", help="At least a minor step.")] = False,
    patch: Annotated[bool, typer.Option("--patch", help="At least a patch.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say which version it would be, and why.")
    ] = False,
    json: Json = False,
) -> None:
    """Release an asset: decide its version by rule, sign a tag, write it into the ledger.

    Major is what breaks users: another base, trigger, task, shape, or fewer rights. Minor is other
    weights, or more rights. Patch is what is said about it. An option may ask for more, never for
    less. An interrupted release is finished by running it again.
    """
    from lorareg.registry.access import policy
    from lorareg.registry.releases import release as releasing

    level = _level(major, minor, patch)
    workspace = Workspace.find()
    asset = workspace.find_asset(ref)
    if dry_run:
        _rehearse(workspace, asset, level, json)
        return
    done = releasing.make(workspace, asset, level, note)
    if json:
        as_json(vars(done) | {"asset": str(done.asset), "reasons": list(done.reasons)})
        return
    _show_reasons(done.reasons)
    how = "finished" if done.finished else "released"
    out.print(f"{how} [bold]{asset}@{done.version}[/] ({done.level}), commit {done.commit[:10]}")
    if policy.load(workspace) is None:
        note("signed; without manifests/policy.yaml nobody can say whose key that is")
    note(f"share it: lorareg push {asset}")


def log(
    ref: RefArgument,
    limit: Annotated[
        int | None, typer.Option("-n", "--limit", min=1, help="Only so many, from the newest.")
    ] = None,
    json: Json = False,
) -> None:
    """Show what happened to an asset, the newest first: changes, releases, channels, grants."""
    from lorareg.registry.chronicle import events

    workspace = Workspace.find()
    asset = workspace.find_asset(ref)
    found = events(workspace, asset, limit)
    if json:
        as_json([event.document() for event in found])
        return
    for event in found:
        signed = f"signed by {event.by}" if event.by else "not signed"
        named = f"  {', '.join(event.tags)}" if event.tags else ""
        out.print(f"[yellow]{event.commit[:10]}[/]", end=f"  {event.date[:10]}  ")
        out.print(f"{event.author}, {signed}{named}", markup=False)
        for line in event.changes or (event.subject,):
            out.print(f"    {line}", markup=False)
    if not found:
        note(f"no commit has {asset} yet: lorareg push {asset}")


def _rehearse(workspace: Workspace, asset: AssetId, level: Level | None, json: bool) -> None:
    from lorareg.registry.releases import readiness
    from lorareg.registry.releases import release as releasing

    readiness.require(workspace, asset)
    plan = releasing.plan(workspace, asset, level)
    reasons = tuple(map(str, plan.reasons))
    if json:
        as_json(vars(plan) | {"asset": str(asset), "reasons": reasons})
        return
    _show_reasons(reasons)
    out.print(f"{asset} would become {plan.version} ({plan.level}); nothing was written")


def _show_reasons(reasons: tuple[str, ...]) -> None:
    for reason in reasons:
        level, _, text = reason.partition(": ")
        out.print(f"[{COLORS[level]}]{level:<5}[/]", end="  ")
        out.print(text, markup=False)


def _level(major: bool, minor: bool, patch: bool) -> Level | None:
    options: tuple[tuple[Level, bool], ...] = (("major", major), ("minor", minor), ("patch", patch))
    asked = [level for level, wanted in options if wanted]
    if len(asked) > 1:
        raise LoraregError(
            "one step at a time: " + " ".join(f"--{level}" for level in asked),
            fix=f"give the largest: --{asked[0]}",
        )
    return asked[0] if asked else None
