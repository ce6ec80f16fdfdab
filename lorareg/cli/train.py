"""``lorareg train``: one adapter, several, or the variants of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import typer

from lorareg.cli import train_one, values
from lorareg.cli.options import AdaptersArgument
from lorareg.cli.show import Json, as_json
from lorareg.errors import LoraregError
from lorareg.registry import yamlfile
from lorareg.registry.ids import RECIPE, AssetId
from lorareg.registry.workspace import Workspace
from lorareg.trainers.runs.orders import Order

SWEEP = "lorareg train character/zhangsan --sweep lora.rank=4,8,16"
LAUNCH = "lorareg train character/zhangsan --launch '--num_processes 2'"


def train(
    refs: AdaptersArgument = None,
    every: Annotated[
        bool, typer.Option("--all", help="Train every adapter that needs it.")
    ] = False,
    kind: Annotated[
        str | None, typer.Option(metavar="KIND", help="Train every adapter of a kind: style.")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Write a value into the manifest first."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="REF|FILE",
            help="Start from an adapter, which becomes the manifest's parent, or from a file.",
        ),
    ] = None,
    restart: Annotated[bool, typer.Option(help="Forget checkpoints and begin anew.")] = False,
    from_step: Annotated[
        int | None, typer.Option(metavar="N", help="Go back to the checkpoint of a step first.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Train even if nothing changed.")] = False,
    skip_broken: Annotated[
        bool, typer.Option(help="List broken pictures in dataset.skip and go on without them.")
    ] = False,
    executor: Annotated[
        Literal["local", "ray"],
        typer.Option(help="Where several trainings run: processes here, or a Ray cluster."),
    ] = "local",
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="How many trainings at a time; they share the cores, and the number of threads "
            "changes the last bits, so the lock records it.",
        ),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=A,B,C", help="Train every combination and compare them."),
    ] = None,
    keep: Annotated[
        Literal["best"] | None,
        typer.Option(help="Make the best variant of a sweep the adapter."),
    ] = None,
    launch: Annotated[
        str | None,
        typer.Option(
            metavar="OPTIONS",
            help="Train one adapter on several devices: options of accelerate launch, such as "
            "'--num_processes 2'.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Check the data, train, and write weights, lock and card; resumes an interrupted run.

    Examples:
        lorareg train character/zhangsan

        lorareg train character/zhangsan --set lora.rank=8 --set train.epochs=20

        lorareg train --kind style --jobs 2

        lorareg train character/zhangsan --sweep lora.rank=4,8,16 --keep best
    """
    workspace = Workspace.find()
    assets = _chosen(workspace, refs or (), every, kind)
    is_one = len(refs or ()) == 1 and not every and kind is None
    elsewhere = executor != "local" or jobs is not None
    _refuse(keep and not sweep, "--keep best needs a --sweep", SWEEP)
    _refuse(sweep and not is_one, "--sweep trains the variants of one adapter", SWEEP)
    _refuse(sweep and from_step is not None, "a sweep has no step to go back to", SWEEP)
    _refuse(launch and (sweep or elsewhere or not is_one), "--launch trains one adapter", LAUNCH)
    changes, axes = values.settings(change or ()), values.axes(sweep or ())
    for asset in assets if changes else ():
        workspace.edit_manifest(asset, changes)
    options = {"restart": restart, "force": force, "parent": start, "from_step": from_step}
    order = Order(str(workspace.root), str(assets[0]), options, skip_broken)
    if launch:
        from lorareg.cli.train_together import train_together

        train_together(order, launch, json)
    elif axes:
        from lorareg.cli.sweep import run_sweep

        run_sweep(order, axes, keep, (executor, jobs), json)
    elif is_one and executor == "local":
        document = train_one.train_one(order)
        as_json(document) if json else train_one.show(document)
    else:
        from lorareg.cli.train_many import train_assets

        train_assets(order, assets, (executor, jobs), json, only=is_one)


def _refuse(wrong: object, what: str, fix: str) -> None:
    if wrong:
        raise LoraregError(what, fix=fix)


def _is_trained_here(workspace: Workspace, asset: AssetId) -> bool:
    """Whether it is neither a recipe nor imported; a broken manifest is an error of its own."""
    if asset.kind == RECIPE:
        return False
    try:
        return "origin" not in yamlfile.load(workspace.folder(asset).manifest)
    except LoraregError:
        return True


def _chosen(
    workspace: Workspace, refs: Sequence[str], every: bool, kind: str | None
) -> list[AssetId]:
    """The adapters that are meant, each once.

    Raises:
        LoraregError: none is named, or names and --all or --kind together.
    """
    if bool(refs) == (every or kind is not None):
        raise LoraregError(
            "name adapters, or say --all or --kind", fix="lorareg train character/zhangsan"
        )
    if refs:
        return list(dict.fromkeys(workspace.find_asset(ref) for ref in refs))
    found = [asset for asset in workspace.assets() if kind in (None, asset.kind)]
    adapters = [asset for asset in found if _is_trained_here(workspace, asset)]
    if not adapters:
        raise LoraregError(
            f"there is no adapter of kind {kind}" if kind else "there is no adapter yet",
            fix="lorareg list shows what there is",
        )
    return adapters
