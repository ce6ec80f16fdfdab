"""Training variants of one adapter, and comparing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lorareg.cli import train_many, train_one
from lorareg.cli.root import err
from lorareg.cli.show import as_json, note, table
from lorareg.registry.ids import AssetId
from lorareg.registry.workspace import Workspace
from lorareg.trainers.adapters import parents
from lorareg.trainers.report.curves import draw_sweep
from lorareg.trainers.runs import sweep
from lorareg.trainers.runs.many import Job, Row
from lorareg.trainers.runs.orders import Order
from lorareg.trainers.runs.sweep import Axes, Variant, VariantResult

HEADS = ("held out", "against base", "best step", "steps", "seconds", "size")


@dataclass(frozen=True)
class Compared:
    """The variants of a sweep that came to their end, the best first, and how all of them went."""

    variants: Mapping[str, Variant]
    rows: Sequence[Row]
    results: Sequence[VariantResult]

    @property
    def best(self) -> VariantResult | None:
        """The one with the lowest held-out loss."""
        return self.results[0] if self.results else None

    @property
    def winner(self) -> VariantResult | None:
        """The best one to keep; none where some were stopped: one of those may be better."""
        return None if any(row.state == "stopped" for row in self.rows) else self.best

    def folder(self, result: VariantResult) -> Path:
        """Of its run."""
        return next(v.folder for v in self.variants.values() if v.fingerprint == result.fingerprint)


def run_sweep(
    order: Order, axes: Axes, keep: str | None, where: tuple[str, int | None], json: bool
) -> None:
    """Train every variant, compare them, and make the best one the asset if that is wanted.

    Args:
        order: for the asset, without changes.
        axes: dotted key -> values.
        keep: "best", or None.
        where: executor, and how many at a time.
        json: print one JSON document instead of a table.
    """
    workspace, asset = Workspace(Path(order.root)), AssetId.parse(order.asset)
    compared = _train(workspace, asset, order, axes, where)
    plot = _draw(workspace, asset, compared)
    if not json:
        _print(compared, list(axes))
    note(f"curves: {plot.relative_to(workspace.root)}")
    kept = _keep(workspace, asset, order, compared.winner) if keep and compared.winner else None
    if json:
        as_json(_document(compared, kept))
    elif kept:
        train_one.show(kept)
    train_many.end(compared.rows)


def _train(
    workspace: Workspace, asset: AssetId, order: Order, axes: Axes, where: tuple[str, int | None]
) -> Compared:
    options = dict(order.options)
    manifest = workspace.load_manifest(asset)
    _, file = parents.given(workspace, manifest, options.get("parent"))
    options["parent"] = options.get("parent") if file else None  # an adapter is in the manifest now
    found = sweep.variants(workspace, asset, axes, file.input if file else None)
    variants = {variant.name: variant for variant in found}
    orders = replace(order, options=options)
    jobs = [
        Job(name, replace(orders, changes=v.values, fingerprint=v.fingerprint))
        for name, v in variants.items()
    ]
    anew = options.get("restart") or options.get("force")

    def known(order: Order) -> Mapping[str, Any] | None:
        name = Variant(order.changes or {}, "", Path()).name
        result = None if anew else variants[name].finished()
        if result is None:
            return None
        return {"trained": False, **result.model_dump(mode="json", by_alias=True)}

    err.print(f"[bold]{asset}[/]: {len(jobs)} variants")
    rows = train_many.train_many(jobs, "variant", known, *where)
    over = [variants[row.name].finished() for row in rows if row.document]
    return Compared(variants, rows, sweep.ranked([one for one in over if one]))


def _draw(workspace: Workspace, asset: AssetId, compared: Compared) -> Path:
    names = {v.fingerprint: name for name, v in compared.variants.items()}
    folders = {names[one.fingerprint]: compared.folder(one) for one in compared.results}
    return draw_sweep(workspace.runs(asset) / "sweep.png", str(asset), folders)


def _keep(
    workspace: Workspace, asset: AssetId, order: Order, best: VariantResult
) -> dict[str, Any]:
    """Write the values of the best variant into the manifest, and publish its run."""
    workspace.edit_manifest(asset, best.values)
    # The run is over: only samples are drawn again, with what it was trained with.
    place = best.environment.model_dump(include={"precision", "threads", "kernels"})
    options = {**order.options, "restart": False, "force": False, **place}
    return train_one.train_one(replace(order, options=options))


def _print(compared: Compared, keys: Sequence[str]) -> None:
    failed = [row for row in compared.rows if row.document is None]
    lines = [_line(one, keys) for one in compared.results]
    for row in failed:
        values = compared.variants[row.name].values
        empty = [""] * (len(HEADS) - 1)
        lines.append([*(sweep.shown(values[key]) for key in keys), row.state, *empty])
    table((*_short(keys), *HEADS), lines)
    if not sweep.measured_alike(compared.results):
        note(
            "the base alone has other held-out losses in some of them, so they are ordered by the "
            "change against it"
        )


def _line(one: VariantResult, keys: Sequence[str]) -> list[str]:
    result = one.result
    return [
        *(sweep.shown(one.values[key]) for key in keys),
        f"{result.validation_loss or 0.0:.4f}",
        _against_base(one),
        str(result.best_step),
        str(result.steps),
        f"{result.seconds:.1f}",
        f"{one.bytes / 1e6:.2f} MB",
    ]


def _short(keys: Sequence[str]) -> list[str]:
    """The last part of each key, if no two of them are the same."""
    last = [key.rpartition(".")[2] for key in keys]
    return last if len(set(last)) == len(keys) else list(keys)


def _against_base(one: VariantResult) -> str:
    base, loss = one.result.base_validation_loss, one.result.validation_loss
    return f"{100 * (loss / base - 1):+.1f} %" if base and loss is not None else ""


def _document(compared: Compared, kept: Mapping[str, Any] | None) -> dict[str, Any]:
    finished = [one.model_dump(mode="json", by_alias=True) for one in compared.results]
    failed = [
        {"values": compared.variants[row.name].values, "error": row.error}
        for row in compared.rows
        if row.document is None
    ]
    best = compared.best.values if compared.best else None
    return {"variants": [*finished, *failed], "best": best, "kept": kept}
