"""``lorareg access``: who may use an asset for what, the Hub's gate, and the log of uses."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorareg.cli.options import OptionalRef, RefArgument
from lorareg.cli.root import out
from lorareg.cli.show import Json, as_json, findings, note, table
from lorareg.errors import LoraregError, NotFoundError
from lorareg.registry.workspace import Workspace

if TYPE_CHECKING:
    from lorareg.registry.access.gate_sync import Drift
    from lorareg.registry.ids import AssetId

access = typer.Typer(
    no_args_is_help=True, help="Say who may use an asset, for what and until when; and look."
)
WhoArgument = Annotated[
    str, typer.Argument(metavar="WHO", help="A person of the policy, or a name for an outsider.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done; do nothing.")]


@access.command()
def grant(
    ref: RefArgument,
    who: WhoArgument,
    purpose: Annotated[
        str, typer.Option(metavar="TEXT", help="What for; users say the same words.")
    ],
    until: Annotated[
        str | None, typer.Option(metavar="DATE", help="Last day on which it holds: 2027-06-30.")
    ] = None,
    hub: Annotated[
        str | None, typer.Option(metavar="USER", help="Their name on the Hub, for its gate.")
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="USE",
            help="Only for this: train, compose, generate, pull, export, publish; may be "
            "repeated [all but publish].",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Let somebody use an asset for a purpose; signed and committed. For owners and maintainers.

    Example:
        lorareg access grant character/zhangsan mia --purpose "game trailer" --until 2027-06-30
    """
    from lorareg.registry.access import grants, stewards
    from lorareg.registry.schema import check

    workspace = Workspace.find()
    asset = workspace.find_asset(ref)
    giver = stewards.require(workspace, asset, "grant the use of")
    _refuse_unknown(workspace, who, hub)
    document = {"who": who, "hub": hub, "purpose": purpose, "scope": scope or [], "by": giver}
    day = grants.day(until) if until else None
    today = datetime.date.today()
    if day and day < today:
        raise LoraregError(f"{day} is over", fix="name a day to come, or leave --until out")
    dates = {"until": day, "on": today}
    new = check(grants.Grant, document | dates, "the grant", fix="correct what was typed")
    changed = grants.given(workspace, asset, new)
    commit = grants.commit(workspace, asset, changed, f"Grant {who} the use of {asset}: {purpose}")
    if json:
        as_json({"asset": str(asset), "grant": new.document, "commit": commit})
        return
    renewed = ", in place of an earlier one" if changed.gone else ""
    out.print(f"{who} may use {asset} for {purpose!r}{_until(new.until)}{renewed}", markup=False)
    _say_gate(workspace, asset)


@access.command()
def revoke(
    ref: RefArgument,
    who: WhoArgument,
    purpose: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only the grant for this [all of theirs].")
    ] = None,
    json: Json = False,
) -> None:
    """Take grants back; signed and committed. To withdraw an asset itself: lorareg revoke."""
    from lorareg.registry.access import grants, stewards

    workspace = Workspace.find()
    asset = workspace.find_asset(ref)
    stewards.require(workspace, asset, "take back grants for")
    changed = grants.withdrawn(workspace, asset, who, purpose)
    commit = grants.commit(workspace, asset, changed, f"Take back the grant of {asset} to {who}")
    if json:
        gone = [each.document for each in changed.gone]
        as_json({"asset": str(asset), "gone": gone, "commit": commit})
        return
    for each in changed.gone:
        out.print(f"{who} may no longer use {asset} for {each.purpose!r}", markup=False)
    _say_gate(workspace, asset)


@access.command("list")
def list_access(ref: OptionalRef = None, json: Json = False) -> None:
    """Show who may use an asset: visibility, owners, grants with their last day, and you."""
    from lorareg.registry.access import grants, policy, stewards

    workspace = Workspace.find()
    assets = [workspace.find_asset(ref)] if ref else list(workspace.assets())
    today = datetime.date.today()
    rules, person = policy.load(workspace), policy.me(workspace)
    documents = []
    for asset in assets:
        manifest = workspace.load_asset(asset)
        owners = rules.owners(asset.kind, manifest.owners) if rules else manifest.owners
        given = [
            {**each.document, "holds": each.holds(today)} for each in grants.load(workspace, asset)
        ]
        documents.append(
            {"asset": str(asset), "visibility": manifest.visibility, "owners": sorted(owners),
             "maintainers": sorted(rules.maintainers) if rules else [], "grants": given,
             "you": stewards.role_of(workspace, asset, rules, person)}
        )  # fmt: skip
    if json:
        as_json(documents)
        return
    for document in documents:
        _show_access(document)


@access.command()
def diff(ref: RefArgument, json: Json = False) -> None:
    """Compare the Hub's gate with the grants. Exit status 1 if they differ."""
    from lorareg.registry.access import gate_sync

    workspace = Workspace.find()
    asset = workspace.find_asset(ref)
    found = gate_sync.drift(workspace, asset)
    _show_drift(asset, found, json, done=False)
    if not found.is_none:
        raise typer.Exit(1)


@access.command()
def sync(ref: RefArgument, dry_run: DryRun = False, json: Json = False) -> None:
    """Make the Hub's gate equal to the grants; requests without a grant are shown, not touched."""
    from lorareg.registry.access import gate_sync, stewards

    workspace = Workspace.find()
    asset = workspace.find_asset(ref)
    stewards.require(workspace, asset, "open the gate of")
    found = gate_sync.drift(workspace, asset)
    if not dry_run:
        gate_sync.sync(found)
    _show_drift(asset, found, json, done=not dry_run)


@access.command()
def uses(
    ref: OptionalRef = None,
    check: Annotated[
        bool, typer.Option("--check", help="Check that no line was changed, removed or moved.")
    ] = False,
    json: Json = False,
) -> None:
    """Show this clone's log of uses that leave no commit: generate, export, load, pull.

    Exit status 1 if --check finds that it is not what was written.
    """
    from lorareg.registry.access import uses as log

    workspace = Workspace.find()
    if check:
        found = log.check(workspace)
        as_json([vars(each) for each in found]) if json else findings("uses", found)
        if not all(each.ok for each in found):
            raise typer.Exit(1)
        return
    name = str(workspace.find_asset(ref)) if ref else None
    entries = [each for each in log.entries(workspace) if name is None or log.tells_of(each, name)]
    if json:
        as_json(entries)
        return
    keys = ("time", "who", "use", "asset", "purpose", "out")
    table(keys, [tuple(str(each.get(key) or "") for key in keys) for each in entries])


def _refuse_unknown(workspace: Workspace, who: str, hub: str | None) -> None:
    from lorareg.registry.access import policy

    rules = policy.load(workspace)
    if hub is None and (rules is None or who not in rules.people):
        raise NotFoundError(
            f"nobody could recognise {who}",
            why="the policy has no such person, and no Hub name is given",
            fix=f"name them on the Hub: --hub USER; or add {who} to people in {policy.FILE}",
        )


def _say_gate(workspace: Workspace, asset: AssetId) -> None:
    from lorareg.registry.publication import repo_of

    if repo := repo_of(workspace, asset):
        note(f"the gate of {repo} follows with: lorareg access sync {asset}")


def _until(day: datetime.date | None) -> str:
    return f" until {day}" if day else ""


def _show_access(document: dict[str, Any]) -> None:
    out.print(f"[bold]{document['asset']}[/]  {document['visibility']}", highlight=False)
    for key in ("owners", "maintainers"):
        if document[key]:
            out.print(f"  {key}: {', '.join(document[key])}", markup=False)
    for each in document["grants"]:
        hub = f" (Hub: {each['hub']})" if "hub" in each else ""
        scope = f", only to {', '.join(each['scope'])}" if "scope" in each else ""
        until = f", until {each['until']}" if "until" in each else ""
        over = "" if each["holds"] else ": expired"
        out.print(
            f"  grant: {each['who']}{hub} for {each['purpose']!r}{scope}{until}{over}; "
            f"by {each['by']} on {each['on']}",
            markup=False,
        )
    out.print(f"  you are {document['you']}", markup=False)


def _show_drift(asset: AssetId, found: Drift, json: bool, *, done: bool) -> None:
    if json:
        told = {key: [vars(p) for p in getattr(found, key)] for key in ("admit", "reject")}
        rest = {"waiting": list(found.waiting), "inside": list(found.inside)}
        as_json({"asset": str(asset), "repo": found.repo, "done": done, **told, **rest})
        return
    for person in found.admit:
        out.print(f"{'let in' if done else 'to let in'}  {person.user}  {person.why}", markup=False)
    for person in found.reject:
        word = "turned away" if done else "to turn away"
        out.print(f"{word}  {person.user}  {person.why}", markup=False)
    for user in found.waiting:
        out.print(f"waits  {user}  has no grant; an owner decides", markup=False)
    if found.is_none:
        out.print(f"the gate of {found.repo} is equal to the grants of {asset}", markup=False)
