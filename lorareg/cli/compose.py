"""``lorareg compose EXPR``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lorareg.cli import compose_wish
from lorareg.cli.compose_check import Strict, checked, sentence
from lorareg.cli.options import ExprArgument
from lorareg.cli.root import out
from lorareg.cli.show import Json, as_json, note, table, warn
from lorareg.errors import LoraregError
from lorareg.registry.workspace import Workspace

if TYPE_CHECKING:
    from lorareg.registry.lock import RecipeLock
    from lorareg.registry.recipe import RecipeManifest
    from lorareg.weights.checks.run import Report
    from lorareg.weights.compose import Merged
    from lorareg.weights.members import Composition


Output = Literal["recipe", "exact", "merged", "compressed"]


def compose(
    expression: ExprArgument,
    name: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Keep it as recipe/NAME [its parts' names]."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option(help="Replace a recipe of that name that has other parts.")
    ] = False,
    output: Annotated[
        Output,
        typer.Option(
            help="recipe: pins only. Also one file: exact, the sum itself; merged, what --method "
            "makes; compressed, the nearest one of --rank, --energy or --max-size."
        ),
    ] = "recipe",
    rank: Annotated[int | None, typer.Option(min=1, help="Of the compressed file.")] = None,
    energy: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the squared norm to keep: 0.99.")
    ] = None,
    max_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Of the compressed file: 30M.")
    ] = None,
    truncate: Annotated[
        Literal["optimal", "fair"] | None,
        typer.Option(help="Least error of the sum [optimal], or a like share of each part."),
    ] = None,
    method: Annotated[
        Literal["sum", "ties", "tsv", "np", "dare"] | None,
        typer.Option(help="How parts are put together [sum]; only a sum is exact."),
    ] = None,
    protect: Annotated[
        str | None, typer.Option(metavar="REF", help="The part that np leaves as it is.")
    ] = None,
    mu: Annotated[
        float | None, typer.Option(min=0, help="How much the other part of np gives way [0.5].")
    ] = None,
    keep: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share that ties or dare keeps [0.3].")
    ] = None,
    mode: Annotated[
        Literal["sum", "switch", "composite"] | None,
        typer.Option(help="All at every step [sum]; one at a time; or their predictions averaged."),
    ] = None,
    every: Annotated[
        int | None, typer.Option(min=1, help="Steps before --mode switch goes on [5].")
    ] = None,
    negative_prompt: Annotated[
        str | None, typer.Option(help="What pictures should not show.")
    ] = None,
    min_retention: Annotated[
        float | None, typer.Option(min=0, max=1, help="Refuse a file that keeps less of a part.")
    ] = None,
    max_amplification: Annotated[
        float | None, typer.Option(min=0, help="Refuse parts that add up to more than that.")
    ] = None,
    strict: Strict = False,
    dry_run: Annotated[bool, typer.Option(help="Check and measure; write nothing.")] = False,
    json: Json = False,
) -> None:
    """Combine adapters: check that they fit, measure them, and keep the result as a recipe.

    Example:
        lorareg compose style/ink:0.7+character/zhangsan:0.9 --as ink-zhangsan --output exact
    """
    from lorareg.registry.recipe import size_of

    how = compose_wish.told(
        method=compose_wish.told(name=method, protect=protect, mu=mu, keep=keep),
        compression=compose_wish.told(
            rank=rank, energy=energy, max_size=size_of(max_size) if max_size else None,
            truncate=truncate,
        ),
        schedule=compose_wish.told(mode=mode, every=every),
        guards=compose_wish.told(min_retention=min_retention, max_amplification=max_amplification),
        negative_prompt=negative_prompt,
    )  # fmt: skip
    made = _made(expression, name, output, how, strict=strict, dry_run=dry_run, overwrite=overwrite)
    if json:
        as_json(_answer(made))
    else:
        _show(made)


@dataclass(frozen=True)
class _Made:
    """A composition that was checked and built, and its lock unless nothing was to be written."""

    wanted: RecipeManifest
    composition: Composition
    report: Report
    merged: Merged | None
    lock: RecipeLock | None


def _made(
    expression: str, name: str | None, output: str, how: dict[str, Any], *,
    strict: bool, dry_run: bool, overwrite: bool,
) -> _Made:  # fmt: skip
    from lorareg.registry.access import uses
    from lorareg.registry.expression import Expression
    from lorareg.weights import compose as algebra
    from lorareg.weights import members, recipes

    workspace = Workspace.find()
    wanted = compose_wish.wanted(workspace, Expression.parse(expression), name, how)
    compose_wish.refuse_output(output, wanted, how)
    recipes.refuse_other(workspace, wanted, overwrite=overwrite)
    composition = members.of_recipe(workspace, wanted)
    report = checked(workspace, composition, strict=strict, merged=output != "recipe")
    merged = algebra.merge(composition, wanted)
    if merged is None and output != "recipe":
        raise LoraregError(
            "one file cannot be what changes from step to step",
            why="the composition has steps=..., or a --mode other than sum",
            fix="keep it as a recipe: --output recipe",
        )
    if merged and report.conflicts:
        algebra.guard(wanted, merged, report.conflicts.amplification)
    lock = None
    if dry_run:
        uses.record(workspace, "compose", expression, {"members": composition.used, "out": None})
    else:
        lock = recipes.save(
            workspace, composition, wanted, merged,
            write_file=output != "recipe", overwrite=overwrite,
        )  # fmt: skip
    return _Made(wanted, composition, report, merged, lock)


def _answer(made: _Made) -> dict[str, Any]:
    from lorareg.weights.compose import measure

    return {
        "recipe": str(made.wanted.id),
        "lock": made.lock.model_dump(mode="json", by_alias=True) if made.lock else None,
        "warnings": [*made.composition.warnings, *map(sentence, made.report.soft)],
        "measures": [vars(each) for each in measure(made.composition)],
        "error": made.merged.error if made.merged else None,
        "retention": made.merged.retention if made.merged else None,
    }


def _show(made: _Made) -> None:
    from lorareg.weights.compose import measure

    for warning in made.composition.warnings:
        warn(warning)
    merged, measured = made.merged, measure(made.composition)
    kept = (merged.retention if merged else None) or {}
    table(
        ("part", "weight", "share of the sum", "cosine to the rest", *(["kept"] if kept else [])),
        [
            (
                each.ref, str(part.strength), f"{each.share:.2f}", f"{each.cosine:+.3f}",
                *([f"{kept[each.ref]:.1%}"] if kept else []),
            )
            for each, part in zip(measured, made.composition.components, strict=True)
        ],
    )  # fmt: skip
    if merged and merged.worst:
        out.print(
            f"relative error {merged.error:.3g}; worst module {merged.worst[0]} "
            f"{merged.worst[1]:.3g}",
            highlight=False,
        )
    if made.lock is None:
        note("nothing was written")
        return
    out.print(f"{made.wanted.id}  {made.lock.fingerprint}")
    for file, facts in made.lock.outputs.items():
        out.print(f"  weights/{file}  {facts.bytes:,} bytes  {facts.sha256}")
