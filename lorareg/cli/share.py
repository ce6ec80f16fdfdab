"""``lorareg push`` and ``lorareg pull``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorareg.cli.options import RefsArgument
from lorareg.cli.root import out, show_error
from lorareg.cli.show import Json, as_json, note
from lorareg.errors import LoraregError
from lorareg.registry.ids import AssetId, Ref
from lorareg.registry.workspace import Workspace

if TYPE_CHECKING:
    from lorareg.registry.git.outgoing import MovedTag
    from lorareg.registry.sharing.planning import Plan
    from lorareg.registry.sharing.receiving import Pulled

HUB = "hub:"


def push(
    refs: RefsArgument = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Commit the assets' folders, upload their bytes, push branch and releases, publish.

    Every step can be repeated; an interrupted push is finished by running it again. When others
    pushed meanwhile, their commits are united with yours.
    """
    from lorareg.cli.progress import shown
    from lorareg.registry.sharing import planning, pushing

    workspace = Workspace.find()
    assets = _assets(workspace, refs)
    names = [str(asset) for asset in assets]
    if dry_run:
        plan = planning.of(workspace, assets)
        if json:
            as_json({"dry_run": True, "assets": names, **asdict(plan)})
        else:
            _print_plan(plan)
        return
    with shown() as meter:
        done = pushing.push(workspace, assets, note, meter)
    if json:
        as_json(asdict(done) | {"assets": names})
        return
    where = f" to {done.remote}" if done.remote else ""
    out.print(f"pushed {len(assets)} assets{where}: {done.objects} new objects", markup=False)


def pull(
    refs: RefsArgument = None,
    git: Annotated[bool, typer.Option(help="Get new commits first.")] = True,
    name: Annotated[
        str | None,
        typer.Option("--as", metavar="KIND/NAME", help="What hub:ORG/NAME is called here."),
    ] = None,
    base: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Base of hub:ORG/NAME, if it names none.")
    ] = None,
    json: Json = False,
) -> None:
    """Get new commits, then fetch, verify and put in place weights and datasets.

    Bytes that are not those a lock promises are refused and never appear. REF@v1.0.0 fetches the
    weights of a release beside what is checked out and prints where they are; hub:ORG/NAME@v1.0.0
    imports an adapter that somebody published.
    """
    from lorareg.cli.progress import shown
    from lorareg.registry.access import authority
    from lorareg.registry.git import outgoing
    from lorareg.registry.sharing import receiving

    workspace = Workspace.find()
    plain, releases, foreign = _sorted(refs or [])
    moved: tuple[MovedTag, ...] = ()
    if git and workspace.history.remote():
        update = workspace.history.pull()
        moved = update.moved
        note(f"git: {update.how}")
        for tag in moved:
            note(f"moved tag, kept as it is here: {outgoing.described(tag)}")
    if told := authority.pin(workspace):
        note(told)
    answer: dict[str, Any] = {}
    if foreign:
        answer["imported"] = [_import(workspace, url, name, base) for url in foreign]
    if releases:
        answer["releases"] = {str(ref): str(_release(workspace, ref)) for ref in releases}
    done: Pulled | None = None
    if plain or not refs:
        with shown() as meter:
            done = receiving.pull_each(workspace, _assets(workspace, plain), note, meter)
    _report(answer, done, json)
    asked = [str(workspace.find_asset(ref)) for ref in plain] or None
    mine = [tag for tag in moved if asked is None or tag.name.partition("@")[0] in asked]
    _finish(done, mine, json)


def _sorted(refs: list[str]) -> tuple[list[str], list[Ref], list[str]]:
    """What is checked out, releases, and adapters of the Hub."""
    foreign = [ref.removeprefix(HUB) for ref in refs if ref.startswith(HUB)]
    here = [ref for ref in refs if not ref.startswith(HUB)]
    releases = [Ref.parse(ref) for ref in here if Ref.parse(ref).at]
    return [ref for ref in here if not Ref.parse(ref).at], releases, foreign


def _import(workspace: Workspace, url: str, name: str | None, base: str | None) -> str:
    from lorareg.weights import hub_import

    return str(hub_import.pull(workspace, url, name, note, base))


def _release(workspace: Workspace, ref: Ref) -> Any:
    from lorareg.registry import versions
    from lorareg.registry.access import permission

    state = versions.find(workspace, ref)
    permission.require(workspace, state.asset, "pull", version=state.version)
    return versions.weights(workspace, state)


def _report(answer: dict[str, Any], done: Pulled | None, json: bool) -> None:
    if json:
        if done:
            answer |= {
                "verified": dict(done.verified),
                "unverified": list(done.unverified),
                "objects": done.objects,
                "size": done.size,
                "refused": {
                    name: {"what": error.what, "why": error.why, "fix": error.fix}
                    for name, error in done.refused.items()
                },
            }
        as_json(answer)
        return
    for name in answer.get("imported", ()):
        out.print(f"{name}: imported", markup=False)
    for path in answer.get("releases", {}).values():
        out.print(path, markup=False)
    if done:
        for asset, count in done.verified.items():
            out.print(f"{asset}: {count} files match the lock")
        for name in done.unverified:
            out.print(f"{name}: not trained yet, its data match DVC's pointer")


def _finish(done: Pulled | None, moved: list[MovedTag], json: bool) -> None:
    """End with status 2 where something was refused; the others are in place."""
    from lorareg.registry.git import outgoing

    refusals: list[LoraregError] = []
    try:
        if done:
            done.refuse()
    except LoraregError as refused:
        refusals.append(refused)
    try:
        outgoing.refuse_moved(moved, "origin")
    except LoraregError as refused:
        refusals.append(refused)
    if not json and len(refusals) == 1:
        raise refusals[0]
    for each in refusals:
        show_error(each, as_json=False)
    if refusals:
        raise typer.Exit(2)


def _print_plan(plan: Plan) -> None:
    from lorareg.registry.sharing.meter import spoken

    out.print(f"commit {len(plan.files)} files")
    for file in plan.files:
        out.print(f"  {file}", markup=False)
    for each in plan.uploads:
        most = "" if each.is_exact else "at most "
        out.print(
            f"upload {most}{each.objects} objects, {spoken(each.size)}, to {each.remote}",
            markup=False,
        )
    if plan.to is None:
        out.print("no git remote: nothing would be announced")
    else:
        more = " and the new one" if plan.files else ""
        out.print(f"announce {len(plan.commits)} commits{more} to {plan.to}", markup=False)
        for commit in plan.commits:
            out.print(f"  {commit.id[:10]} {commit.subject}", markup=False)
        for tag in plan.tags:
            out.print(f"  tag {tag}", markup=False)
    for line in plan.hub:
        out.print(f"publish {line}", markup=False)


def _assets(workspace: Workspace, refs: list[str] | None) -> list[AssetId]:
    if not refs:
        return list(workspace.assets())
    return [workspace.find_asset(ref) for ref in refs]
