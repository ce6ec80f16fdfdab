"""``lorareg push`` and ``lorareg pull``."""

from __future__ import annotations

from typing import Annotated

import typer

from lorareg.cli.options import RefsArgument
from lorareg.cli.root import out
from lorareg.cli.show import Json, as_json, note
from lorareg.registry.ids import AssetId
from lorareg.registry.workspace import Workspace


def push(refs: RefsArgument = None, json: Json = False) -> None:
    """Commit the assets' folders, upload their bytes with DVC, push the git branch.

    Every step can be repeated; an interrupted push is finished by running it again.
    """
    from lorareg.registry import sharing

    workspace = Workspace.find()
    assets = _assets(workspace, refs)
    done = sharing.push(workspace, assets, note)
    if json:
        as_json(vars(done) | {"assets": [str(asset) for asset in assets]})
        return
    where = f" to {done.remote}" if done.remote else ""
    out.print(f"pushed {len(assets)} assets{where}: {done.objects} new objects")


def pull(
    refs: RefsArgument = None,
    git: Annotated[bool, typer.Option(help="Get new commits first.")] = True,
    json: Json = False,
) -> None:
    """Get new commits, then fetch, verify and put in place weights and datasets.

    Bytes that are not those a lock promises are refused and never appear.
    """
    from lorareg.registry import sharing

    workspace = Workspace.find()
    if git and workspace.history.remote():
        update = workspace.history.pull()
        note(f"git: {update.how}")
    assets = _assets(workspace, refs)
    done = sharing.pull(workspace, assets, note)
    if json:
        as_json(
            {"verified": dict(done.verified), "unverified": list(done.unverified),
             "objects": done.objects}
        )  # fmt: skip
        return
    for asset, count in done.verified.items():
        out.print(f"{asset}: {count} files match the lock")
    for name in done.unverified:
        out.print(f"{name}: not trained yet, its data match DVC's pointer")


def _assets(workspace: Workspace, refs: list[str] | None) -> list[AssetId]:
    if not refs:
        return list(workspace.assets())
    return [workspace.find_asset(ref) for ref in refs]
