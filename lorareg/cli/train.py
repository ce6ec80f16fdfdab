"""``lorareg train``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorareg.cli.options import OptionalRef
from lorareg.cli.root import err, out
from lorareg.cli.show import Json, as_json
from lorareg.cli.watch import RunWatcher
from lorareg.errors import LoraregError
from lorareg.registry import yamlfile
from lorareg.registry.ids import RECIPE, AssetId
from lorareg.registry.workspace import Workspace

if TYPE_CHECKING:
    from lorareg.registry.lock import Result
    from lorareg.trainers.run import Outcome

BY_HAND = ("dataset.contains_personal_data", "dataset.waiver")


def train(
    ref: OptionalRef = None,
    every: Annotated[
        bool, typer.Option("--all", help="Train every adapter that needs it.")
    ] = False,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Write a value into the manifest first."),
    ] = None,
    restart: Annotated[bool, typer.Option(help="Forget checkpoints and begin anew.")] = False,
    force: Annotated[bool, typer.Option(help="Train even if nothing changed.")] = False,
    skip_broken: Annotated[
        bool, typer.Option(help="List broken pictures in dataset.skip and go on without them.")
    ] = False,
    json: Json = False,
) -> None:
    """Check the data, train, and write weights, lock and card; resumes an interrupted run.

    Examples:
        lorareg train character/zhangsan

        lorareg train character/zhangsan --set lora.rank=8 --set train.epochs=20
    """
    workspace = Workspace.find()
    assets = _chosen(workspace, ref, every)
    for asset in assets if change else []:
        workspace.edit_manifest(asset, _changes(change or []))
    outcomes = [_train_one(workspace, asset, restart, force, skip_broken) for asset in assets]
    if json:
        documents = [_document(outcome) for outcome in outcomes]
        as_json(documents if every else documents[0])
        return
    for outcome in outcomes:
        _print(workspace, outcome)


def _chosen(workspace: Workspace, ref: str | None, every: bool) -> list[AssetId]:
    if (ref is None) == (not every):
        raise LoraregError("name one adapter, or say --all", fix="lorareg train character/zhangsan")
    if ref is None:
        return [asset for asset in workspace.assets() if asset.kind != RECIPE]
    return [workspace.find_asset(ref)]


def _changes(pairs: list[str]) -> dict[str, Any]:
    changes = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise LoraregError(f"--set {pair!r} is not KEY=VALUE", fix="--set lora.rank=8")
        if key.startswith(BY_HAND):
            raise LoraregError(
                f"--set {key} is refused",
                why="whether people's data may be trained on is not a switch of a command",
                fix="let an owner edit manifest.yaml, and review it as any change",
            )
        changes[key] = yamlfile.scalar(value)
    return changes


def _train_one(
    workspace: Workspace, asset: AssetId, restart: bool, force: bool, skip_broken: bool
) -> Outcome:
    err.print(f"[bold]{asset}[/]")
    with RunWatcher(str(asset)) as watcher:
        # Imported under the bar: torch and its friends take seconds.
        watcher.note("loading libraries")
        from lorareg.trainers import run
        from lorareg.trainers.execute import Options
        from lorareg.trainers.prepare import BrokenPicturesError

        options = Options(restart=restart, force=force)
        try:
            return run.train(workspace, asset, options, watcher)
        except BrokenPicturesError as error:
            if not skip_broken:
                raise
            known = workspace.load_manifest(asset).dataset.skip
            workspace.edit_manifest(asset, {"dataset.skip": sorted({*known, *error.names})})
            watcher.note(f"skipping {len(error.names)} broken pictures, listed in dataset.skip")
            return run.train(workspace, asset, options, watcher)


def _print(workspace: Workspace, outcome: Outcome) -> None:
    result = outcome.lock.result
    if not outcome.trained:
        out.print(f"{outcome.asset}: up to date, {outcome.lock.fingerprint}")
        return
    out.print(f"{outcome.asset}: trained {result.steps} steps, {_loss(result)}")
    for name, output in sorted(outcome.lock.outputs.items()):
        out.print(f"  {name}  {output.bytes:,} bytes  {output.sha256}")
    if outcome.run:
        where = outcome.run.relative_to(workspace.root)
        err.print(f"  curve, metrics and samples: {where}", markup=False)


def _document(outcome: Outcome) -> dict[str, Any]:
    return {
        "asset": str(outcome.asset),
        "trained": outcome.trained,
        "fingerprint": outcome.lock.fingerprint,
        "outputs": {n: o.model_dump() for n, o in outcome.lock.outputs.items()},
        "result": outcome.lock.result.model_dump(),
    }


def _loss(result: Result) -> str:
    before, after = result.base_validation_loss, result.validation_loss
    if before is None or after is None:
        return f"training loss {result.train_loss:.4f}"
    return f"held-out loss {before:.4f} -> {after:.4f} ({100 * (after / before - 1):+.1f} %)"
