"""``lorareg diff``: what changed between two states, from the manifest down to the weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorareg.cli.options import complete_ref
from lorareg.cli.root import out
from lorareg.cli.show import Json, as_json, note, table
from lorareg.errors import LoraregError
from lorareg.registry.workspace import Workspace

if TYPE_CHECKING:
    from lorareg.registry import dataset
    from lorareg.registry.differences import Change, Differences
    from lorareg.weights.difference import Block, Difference, Layer, Sums

NAMED = 20  # names of a dataset and values of a section that a person is shown
LAYERS = 12  # rows of the table of layers
SECTIONS = ("manifest", "members", "inputs", "environment", "metrics", "terms")
DIGEST = re.compile(r"\b([a-z0-9-]+:[0-9a-f]{12})[0-9a-f]{52}\b")  # enough of it to tell two apart
HEADS = ("change", "cosine", "norm", "effective rank")


def diff(
    before: Annotated[
        str,
        typer.Argument(metavar="A", help="REF or REF@v1.0.0.", autocompletion=complete_ref),
    ],
    after: Annotated[
        str | None,
        typer.Argument(
            metavar="[B]", help="Default: what is checked out.", autocompletion=complete_ref
        ),
    ] = None,
    png: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw the change of every layer."),
    ] = None,
    json: Json = False,
) -> None:
    """Show what changed between two states: manifest, data, machine, results, terms and weights.

    With A alone and no version, its newest release is compared with what is checked out.

    Example:
        lorareg diff character/zhangsan@v1.0.0 character/zhangsan@v1.1.0 --png change.png
    """
    from lorareg.registry import differences, states

    workspace = Workspace.find()
    pair = states.pair(workspace, before, after)
    found = differences.compare(*pair)
    weights = _weights(workspace, found)
    if png and not isinstance(weights, str):
        _draw(png, found, weights)
    elif png:
        raise LoraregError(f"there is nothing to draw: {weights}", fix="leave --png out")
    if json:
        told = {"absent": weights} if isinstance(weights, str) else weights.document()
        as_json(found.document() | {"weights": told})
        return
    out.print(f"{pair[0].ref} -> {pair[1].ref}", markup=False, style="bold")
    for section in SECTIONS:
        _section(section, getattr(found, section))
    _data(found)
    if isinstance(weights, str):
        note(f"weights: {weights}")
    else:
        _layers(weights)


def _weights(workspace: Workspace, found: Differences) -> Difference | str:
    """What differs in weight space, or why it cannot be said."""
    from lorareg.weights import states

    try:
        return states.compare(workspace, found.before, found.after)
    except LoraregError as error:
        return error.sentence


def _draw(path: Path, found: Differences, weights: Difference) -> None:
    from lorareg.trainers.report.difference import draw

    states = found.before, found.after
    names = [title for state in states for title in state.manifest.title.values()]
    draw(path, weights, " -> ".join(state.ref for state in states), list(dict.fromkeys(names)))
    note(f"drawn: {path}")


def _section(name: str, changes: Sequence[Change]) -> None:
    if not changes:
        return
    out.print(f"[bold]{name}[/]")
    for change in changes[:NAMED]:
        for line in _told(change):
            out.print(f"  {line}", markup=False)
    if len(changes) > NAMED:
        out.print(f"  ... and {len(changes) - NAMED} more: --json has all")


def _told(change: Change) -> list[str]:
    """A line; of a list, one for each item that came or went."""
    old, new = change.before, change.after
    if isinstance(old, list) and isinstance(new, list):
        gone = [f"{change.key}: - {_value(item)}" for item in old if item not in new]
        return gone + [f"{change.key}: + {_value(item)}" for item in new if item not in old]
    return [f"{change.key}: {_value(old)} -> {_value(new)}{_percent(change)}"]


def _value(value: Any) -> str:
    if value is None:
        return "(none)"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(_value, value)) or "(none)"
    return DIGEST.sub(r"\1", str(value))


def _percent(change: Change) -> str:
    old, new = change.before, change.after
    return f" ({new / old - 1:+.1%})" if isinstance(old, float) and new and old else ""


def _data(found: Differences) -> None:
    data = found.data
    if data is None or not (data.files or data.captions or data.prior):
        return
    old, new = data.records
    out.print(f"[bold]dataset[/]  {old} -> {new} records", highlight=False)
    for what, difference in (
        ("records", data.captions),
        ("files", data.files),
        ("class pictures", data.prior),
    ):
        for line in _names(what, difference):
            out.print(f"  {line}", markup=False)


def _names(what: str, found: dataset.Difference) -> Iterator[str]:
    for verb in ("added", "removed", "changed"):
        names: tuple[str, ...] = getattr(found, verb)
        if names:
            more = f" ... and {len(names) - NAMED} more: --json" if len(names) > NAMED else ""
            yield f"{what} {verb} ({len(names)}): {', '.join(names[:NAMED])}{more}"


def _layers(found: Difference) -> None:
    if not found.most_changed:
        out.print("[bold]weights[/]  the delta is the same")
        return
    out.print("[bold]weights[/]", end="  ")
    out.print(f"change {_share(found.whole.change)}, cosine {_cosine(found.whole)}")
    if any(layer.magnitude is not None for layer in found.layers):
        note("a DoRA: this is the delta of its factors, before rows are given their length")
    table(("block", "modules", *HEADS), [_block(block) for block in found.blocks])
    shown = found.most_changed[:LAYERS]
    out.print(f"\nthe {len(shown)} layers that moved farthest")
    table(("layer", *HEADS, "rank"), [_layer(layer) for layer in shown])


def _block(block: Block) -> tuple[str, ...]:
    return (block.name, str(block.modules), *_figures(block.sums, block.effective))


def _layer(layer: Layer) -> tuple[str, ...]:
    name = layer.module if layer.where == "both" else f"{layer.module} (only {layer.where})"
    ranks = "{} -> {}".format(*layer.ranks)
    return (name, *_figures(layer.sums, layer.effective), ranks)


def _figures(sums: Sums, effective: tuple[float, float]) -> tuple[str, ...]:
    norms = "{:.4g} -> {:.4g}".format(*sums.norms)
    return _share(sums.change), _cosine(sums), norms, "{:.2f} -> {:.2f}".format(*effective)


def _share(change: float | None) -> str:
    return "new" if change is None else f"{change:.1%}"


def _cosine(sums: Sums) -> str:
    return "-" if sums.cosine is None else f"{sums.cosine:+.4f}"
