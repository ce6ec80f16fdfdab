"""``lorareg revoke``: a tombstone, and everything that comes from what it is set on."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from lorareg.cli.options import complete_ref
from lorareg.cli.root import out
from lorareg.cli.show import Json, as_json, note
from lorareg.errors import LoraregError
from lorareg.registry.workspace import Workspace

if TYPE_CHECKING:
    from lorareg.registry.access.downstream import Downstream
    from lorareg.registry.access.revocation import Tombstone


def revoke(
    ref: Annotated[
        str,
        typer.Argument(
            metavar="REF[@v1.0.0]", help="An asset, or one release.", autocompletion=complete_ref
        ),
    ],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Everybody who asks is told it.")],
    undo: Annotated[
        bool, typer.Option("--undo", help="Lift the revocation; it stays on record.")
    ] = False,
    withdraw: Annotated[
        bool,
        typer.Option("--withdraw", help="Make the Hub repositories of all of it private, too."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Name what it would concern; do nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Forbid an asset, and everything made from it, from now on; signed and committed.

    pull, compose, generate, export, train, release and publish refuse all of it, with the reason.
    Files and releases stay where they are. For owners and maintainers.

    Example:
        lorareg revoke character/zhangsan --reason "consent withdrawn" --dry-run
    """
    from lorareg.registry.access import stewards, tombstones
    from lorareg.registry.access.revocation import Lifted
    from lorareg.registry.ids import Ref
    from lorareg.registry.schema import check

    workspace, typed = Workspace.find(), Ref.parse(ref)
    if typed.at and not typed.version:
        raise LoraregError(
            f"{ref}: a channel or a range moves", fix="name the release: @v1.0.0, or none: all"
        )
    asset = workspace.find_asset(typed, any_version=True)
    shown = f"{asset}@{typed.version}" if typed.version else str(asset)
    who = stewards.require(workspace, asset, "revoke")
    if undo:
        document = {"reason": reason, "by": who, "on": datetime.date.today()}
        lifted = check(Lifted, document, "--reason")
        commit = tombstones.lift(workspace, asset, typed.version, lifted)
        as_json({"asset": shown, "lifted": True, "commit": commit}) if json else out.print(
            f"{shown} may be used again; what was made private on the Hub stays so"
        )
        return
    stone, found = tombstones.planned(workspace, asset, typed.version, reason, who)
    if not json:
        _show(shown, found, stone)
    if not dry_run:
        _ask(shown, yes, json)
        commit = tombstones.entomb(workspace, asset, stone)
        private = _withdrawn(found) if withdraw else []
        note("others refuse it once they have pulled this: lorareg push " + str(asset))
    if json:
        as_json(
            {"asset": shown, "done": not dry_run, "commit": None if dry_run else commit,
             "withdrawn": [] if dry_run else private, "downstream": found.document()}
        )  # fmt: skip
    elif not dry_run:
        out.print(f"revoked {shown}")


def _show(shown: str, found: Downstream, stone: Tombstone) -> None:
    out.print(f"{shown}: {stone.reason}", markup=False)
    lists = {
        "recipe": found.recipes,
        "adapter": found.adapters,
        "release": found.releases,
        "export": [f"{e.out} of {e.asset}, {e.time[:10]} by {e.who}" for e in found.exports],
        "on the Hub": found.hub,
    }
    for word, names in lists.items():
        for name in names:
            out.print(f"  {word}  {name}", markup=False)
    if not any(lists.values()):
        out.print("  nothing is made from it")
    note("exports are those of this clone's log; copies that others made are known to nobody")


def _ask(shown: str, agreed: bool, json: bool) -> None:
    if agreed:
        return
    if json:
        raise LoraregError(
            "nothing was revoked",
            why="with --json there is nobody to ask",
            fix="look first with --dry-run, then say --yes",
        )
    if not typer.confirm(f"Revoke {shown} and all of these?", err=True):
        raise LoraregError("nothing was revoked", why="the question was not answered with yes")


def _withdrawn(found: Downstream) -> list[str]:
    from lorareg.registry.publishing.withdraw import withdraw

    changed = []
    for repo in found.hub:
        if withdraw(repo):
            changed.append(repo)
            note(f"{repo} is private now")
    return changed
