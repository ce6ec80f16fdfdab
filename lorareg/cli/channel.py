"""``lorareg promote``, ``rollout``, ``rollback`` and ``resolve``: channels and gray releases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorareg.cli.options import RefArgument
from lorareg.cli.root import out
from lorareg.cli.show import Json, as_json, note, table
from lorareg.errors import LoraregError
from lorareg.registry.ids import AssetId, Ref, check_slug
from lorareg.registry.workspace import Workspace

if TYPE_CHECKING:
    from lorareg.registry.releases.guards import Reading
    from lorareg.registry.releases.moving import Move

ReleaseArgument = Annotated[
    str, typer.Argument(metavar="REF@VERSION", help="kind/name@v1.5.0, @^1.5 or @canary.")
]
DryRun = Annotated[bool, typer.Option(help="Say what would move; write nothing.")]
ChannelOption = Annotated[str, typer.Option(metavar="NAME", help="stable, canary, or any other.")]

rollout = typer.Typer(no_args_is_help=True, help="Roll a gray release out, step by step.")


def promote(
    ref: ReleaseArgument,
    channel: ChannelOption,
    share: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Of stable's subjects: 5%, 0.5%.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Subject or group that gets it anyway; repeatable."),
    ] = None,
    guard: Annotated[
        list[str] | None,
        typer.Option(metavar="GUARD", help='"face_sim>=0.82": must hold to go on; repeatable.'),
    ] = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Point a channel to a release: at once, or for a share of stable's subjects.

    Examples:
        lorareg promote character/zhangsan@v1.4.0 --channel stable

        lorareg promote character/zhangsan@v1.5.0 --channel canary --share 5% --allow qa
    """
    from lorareg.registry import versions
    from lorareg.registry.releases import guards, promotion

    workspace = Workspace.find()
    asset, wanted = _asset(workspace, ref)
    check_slug(channel, "channel")
    version = versions.version_of(workspace, asset, wanted)
    if version is None:
        known = versions.releases(workspace, asset)
        raise LoraregError(
            f"{ref} names no release",
            why="a channel points to what cannot change; there are " + (", ".join(known) or "none"),
            fix=f"lorareg promote {asset}@{known[-1] if known else 'v1.0.0'} --channel {channel}",
        )
    wish = promotion.Wish(
        share=_share(share) if share is not None else None,
        allow=tuple(allow) if allow else None,
        guards=tuple(map(guards.parse, guard)) if guard else None,
    )
    move = promotion.promote(workspace, (asset, version), channel, wish, dry_run=dry_run)
    _answer(move, json=json, dry_run=dry_run)


@rollout.command()
def step(
    ref: RefArgument,
    channel: ChannelOption = "canary",
    metrics: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON with what the guards ask for.")
    ] = None,
    check: Annotated[
        str | None,
        typer.Option(metavar="COMMAND", help="Holds if it ends with status 0; no shell runs it."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=86400, metavar="SECONDS", help="That the command has.")
    ] = 600.0,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Go one step on, 5% -> 25% -> 100% -> stable, while the guards hold; else roll back.

    Exit status 1 if a guard does not hold. A metric that is missing or NaN does not.

    Example:
        lorareg rollout step character/zhangsan --metrics metrics.json
    """
    from lorareg.registry.releases import guards
    from lorareg.registry.releases import rollout as rolling

    workspace = Workspace.find()
    asset = workspace.find_asset(ref)
    measured = guards.read(metrics) if metrics else None
    evidence = rolling.Evidence(measured, check, timeout)
    done = rolling.step(workspace, asset, channel, evidence, dry_run=dry_run)
    _answer(done.move, done.readings, json=json, dry_run=dry_run)
    if not done.holds:
        raise typer.Exit(1)


@rollout.command()
def status(ref: RefArgument, json: Json = False) -> None:
    """Show every channel: where it points, for whom, and what its next step is."""
    from lorareg.registry.releases import rollout as rolling

    workspace = Workspace.find()
    asset = workspace.find_asset(ref)
    found = rolling.status(workspace, asset)
    if json:
        as_json({"asset": str(asset), "channels": found})
    elif found:
        heads = ("channel", "version", "share", "allow", "guards", "next")
        table(heads, [tuple(_cell(each[head]) for head in heads) for each in found])
    else:
        note(f"{asset} has no channels: lorareg promote {asset}@v1.0.0 --channel stable")


def rollback(
    ref: Annotated[
        str, typer.Argument(metavar="REF[@VERSION]", help="With a version: restore its files.")
    ],
    channel: Annotated[
        str | None, typer.Option(metavar="NAME", help="The channel to take back.")
    ] = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Point a channel to where it pointed before; or restore a release's files.

    Again goes one further back. The first pointer of a gray release is removed.

    Examples:
        lorareg rollback character/zhangsan --channel stable

        lorareg rollback character/zhangsan@v1.3.0
    """
    workspace = Workspace.find()
    asset, wanted = _asset(workspace, ref)
    if channel is None:
        _restore(workspace, asset, wanted, json=json, dry_run=dry_run)
        return
    from lorareg.registry.releases import rollback as back

    if wanted.at:
        raise LoraregError(
            f"{ref} names a release, and --channel goes back to the one before",
            fix=f"lorareg rollback {asset} --channel {channel}; or, to choose: "
            f"lorareg promote {ref} --channel {channel}",
        )
    move = back.rollback(workspace, asset, channel, dry_run=dry_run)
    _answer(move, json=json, dry_run=dry_run)


def resolve(
    ref: Annotated[str, typer.Argument(metavar="REF@CHANNEL", help="kind/name@stable.")],
    subject: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who asks: player-123.")
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="That the subject is in; repeatable.")
    ] = None,
    json: Json = False,
) -> None:
    """Say which release one gets who asks for a channel; the same on every machine, offline.

    Example:
        lorareg resolve character/zhangsan@stable --subject player-123
    """
    from lorareg.registry.releases.served import Resolver

    answer = Resolver(Workspace.find()).resolve(Ref.parse(ref), subject, group or ())
    if json:
        as_json(answer.document())
        return
    note(answer.choice.why)
    out.print(answer.ref, markup=False)


def _asset(workspace: Workspace, text: str) -> tuple[AssetId, Ref]:
    ref = Ref.parse(text)
    return workspace.find_asset(ref, any_version=True), ref


def _share(text: str) -> int:
    from lorareg.registry.releases.channels import FIX, share_of

    try:
        return share_of(text)
    except ValueError as error:
        raise LoraregError(f"--share {text!r} is no share of 0% to 100%", fix=FIX) from error


def _restore(
    workspace: Workspace, asset: AssetId, wanted: Ref, *, json: bool, dry_run: bool
) -> None:
    if wanted.at is None:
        raise LoraregError(
            f"{asset}: what is to be taken back?",
            why="a channel's pointer, or the files to those of a release",
            fix=f"lorareg rollback {asset} --channel stable; or lorareg rollback {asset}@v1.0.0",
        )
    from lorareg.registry import states
    from lorareg.registry.releases import restore

    state = states.state(workspace, wanted)
    if dry_run:
        note(f"the files of {asset} would be those of {state.ref}")
        return
    done = restore.restore(workspace, state, note)
    if json:
        told = {"version": done.version, "commit": done.commit, "changes": list(done.changes)}
        as_json({"asset": str(asset), **told})
        return
    out.print(f"{asset} is as it was at {done.version}", markup=False)
    for change in done.changes:
        out.print(f"  {change}", markup=False)


def _answer(move: Move, readings: tuple[Reading, ...] = (), *, json: bool, dry_run: bool) -> None:
    if json:
        document = move.document() | {"dry_run": dry_run}
        as_json(document | {"guards": [reading.document() for reading in readings]})
        return
    for reading in readings:
        mark = "[green]ok  [/]" if reading.holds else "[red]FAIL[/]"
        out.print(mark, end=" ")
        out.print(f"{reading.guard}  {reading.detail}", markup=False)
    out.print(f"{move.asset}: {move.shown}", markup=False)
    for line in move.notes:
        out.print(f"  {line}", markup=False)
    if dry_run:
        note("nothing was written")
    elif move.commit:
        note(f"committed {move.commit[:10]}; to share it: lorareg push {move.asset}")


def _cell(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value or "-")
