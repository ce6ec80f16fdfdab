"""Training one adapter, in this process, under a dashboard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorareg.cli.root import err, out
from lorareg.cli.watch import RunWatcher
from lorareg.trainers.runs.orders import Order, carry_out


def train_one(order: Order) -> dict[str, Any]:
    """Train and watch; returns what ``--json`` prints."""
    err.print(f"[bold]{order.asset}[/]")
    with RunWatcher(order.asset) as watcher:
        return carry_out(order, watcher)


def show(document: Mapping[str, Any]) -> None:
    """Say what came out: digests on stdout, where to look on stderr."""
    name = document["asset"]
    if not document["trained"]:
        out.print(f"{name}: up to date, {document['fingerprint']}")
        return
    out.print(f"{name}: trained {document['result']['steps']} steps, {_loss(document['result'])}")
    for file, output in sorted(document["outputs"].items()):
        out.print(f"  {file}  {output['bytes']:,} bytes  {output['sha256']}")
    if document["run"]:
        err.print(f"  curve, metrics and samples: {document['run']}", markup=False)


def _loss(result: Mapping[str, Any]) -> str:
    before, after = result["base_validation_loss"], result["validation_loss"]
    if before is None or after is None:
        return f"training loss {result['train_loss']:.4f}"
    return f"held-out loss {before:.4f} -> {after:.4f} ({100 * (after / before - 1):+.1f} %)"
