"""``lorareg compose`` and ``lorareg generate``."""

from __future__ import annotations

import json as jsonlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lorareg.cli.compose_check import Strict, checked, sentence
from lorareg.cli.options import ExprArgument
from lorareg.cli.root import err, out
from lorareg.cli.show import Json, as_json, note, table
from lorareg.errors import LoraregError
from lorareg.registry.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorareg.registry.lock import RecipeLock
    from lorareg.registry.recipe import RecipeManifest
    from lorareg.trainers.core.task import Sample
    from lorareg.weights.checks.run import Report
    from lorareg.weights.compose import Merged
    from lorareg.weights.members import Composition


Output = Literal["recipe", "exact", "merged", "compressed"]


def compose(
    expression: ExprArgument,
    name: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Keep it as recipe/NAME; default: its parts."),
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
        Literal["optimal", "fair"],
        typer.Option(help="Least error of the sum, or a like share of each part."),
    ] = "optimal",
    method: Annotated[
        Literal["sum", "ties", "tsv", "np", "dare"],
        typer.Option(help="How parts are put together; only a sum is exact."),
    ] = "sum",
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
        Literal["sum", "switch", "composite"],
        typer.Option(help="All at every step; one at a time; or their predictions averaged."),
    ] = "sum",
    every: Annotated[
        int | None, typer.Option(min=1, help="Steps before --mode switch goes on [5].")
    ] = None,
    negative_prompt: Annotated[str, typer.Option(help="What pictures should not show.")] = "",
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

    compression = _told(rank=rank, energy=energy, max_size=size_of(max_size) if max_size else None)
    _refuse_contradictions(output, method, compression)
    how = {
        "method": _told(name=method, protect=protect, mu=mu, keep=keep),
        "compression": {**compression, "truncate": truncate} if compression else None,
        "schedule": _told(mode=mode, every=every),
        "guards": _told(min_retention=min_retention, max_amplification=max_amplification),
        "negative_prompt": negative_prompt or None,
    }
    made = _made(
        expression, name, output, _told(**how),
        strict=strict, dry_run=dry_run, overwrite=overwrite,
    )  # fmt: skip
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
    from dataclasses import replace

    from lorareg.registry.expression import Expression
    from lorareg.registry.recipe import RecipeManifest
    from lorareg.weights import compose as algebra
    from lorareg.weights import members, recipes

    workspace, typed = Workspace.find(), Expression.parse(expression)
    found = members.resolve(workspace, typed)
    chosen = name or "-with-".join(part.asset.name for part in found.components)[:64]
    wanted = RecipeManifest.of(chosen, members.parts_of(workspace, typed), **how)
    composition = replace(found, method=wanted.method, schedule=wanted.schedule)
    report = checked(workspace, composition, strict=strict, merged=output != "recipe")
    merged = algebra.merge(composition, wanted)
    if merged is None and output != "recipe":
        raise LoraregError(
            "one file cannot be what changes from step to step",
            why="the composition has steps=..., or a --mode other than sum",
            fix="keep it as a recipe: --output recipe",
        )
    if merged and report.conflicts:
        algebra.guard(wanted.guards, merged, report.conflicts.amplification)
    lock = None
    if not dry_run:
        lock = recipes.save(
            workspace, composition, wanted, merged,
            write_file=output != "recipe", overwrite=overwrite,
        )  # fmt: skip
    return _Made(wanted, composition, report, merged, lock)


def _refuse_contradictions(output: str, method: str, compression: dict[str, Any]) -> None:
    if (output == "compressed") != bool(compression):
        raise LoraregError(
            "a compressed file needs one of --rank, --energy and --max-size"
            if output == "compressed"
            else f"--output {output} does not compress",
            fix="lorareg compose EXPR --output compressed --rank 32",
        )
    if output == "exact" and method != "sum":
        raise LoraregError(
            f"--method {method} is not exact",
            why="it changes the parts before it adds them up",
            fix=f"lorareg compose EXPR --method {method} --output merged",
        )


def _told(**values: Any) -> dict[str, Any]:
    """What was said; the rest has the defaults of the manifest."""
    return {key: value for key, value in values.items() if value}


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
        err.print(f"[yellow]warning[/] {warning}", highlight=False)
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


def generate(
    expression: ExprArgument,
    prompt: Annotated[list[str], typer.Option(help="What to generate; may be given repeatedly.")],
    seed: Annotated[int, typer.Option(min=0, help="Of the first output.")] = 0,
    count: Annotated[int, typer.Option(min=1, max=16, help="Seeds a prompt.")] = 1,
    compare: Annotated[bool, typer.Option(help="Show the base and each part beside it.")] = False,
    to: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="PNG to write (pictures).")
    ] = Path("generated.png"),
    json: Json = False,
) -> None:
    """Generate with a composition, loaded at run time, with fixed seeds.

    Pictures go into one PNG with a JSON beside it, replies to stdout.
    """
    from lorareg.registry.expression import Expression
    from lorareg.weights.members import resolve

    workspace = Workspace.find()
    composition = resolve(workspace, Expression.parse(expression))
    checked(workspace, composition)
    note("loading libraries")
    from lorareg.trainers.generate import Generator

    like = composition.components[0].manifest
    generator = Generator(workspace, like, like.sample)
    rows: list[tuple[str, list[Sample]]] = []
    for label, wanted in _wanted(composition, compare):
        samples = [
            sample
            for number in range(count)
            for sample in generator.samples(wanted, prompt, seed + number)
        ]
        rows.append((label, samples))
    if composition.task == "text-to-image":
        _write_pictures(to, rows, composition)
    document = _document(composition, rows)
    if json:
        as_json(document)
    elif composition.task == "text-to-image":
        out.print(f"wrote {to} and {to.with_suffix('.json').name}")
    else:
        for label, samples in rows:
            for sample in samples:
                out.print(f"[bold]{label}[/]", end="  ")
                out.print(f"{sample.prompt}\n{sample.output}\n", markup=False)


def _wanted(composition: Composition, compare: bool) -> list[tuple[str, Composition | None]]:
    from dataclasses import replace

    both: list[tuple[str, Composition | None]] = [(composition.expression, composition)]
    if not compare:
        return both
    alone: list[tuple[str, Composition | None]] = [("base", None)]
    if len(composition.components) > 1:
        alone += [
            (str(part.asset), replace(composition, components=(part,)))
            for part in composition.components
        ]
    return alone + both


def _write_pictures(
    path: Path, rows: Sequence[tuple[str, Sequence[Sample]]], composition: Composition
) -> None:
    from PIL.Image import Image

    from lorareg.registry.files import write_atomically
    from lorareg.trainers.report.grid import save_grid

    pictures = [
        (label.replace("+", " + "), [s.output for s in samples if isinstance(s.output, Image)])
        for label, samples in rows
    ]
    heads = [f"{sample.prompt} [{sample.seed}]" for sample in rows[0][1]]
    save_grid(path, pictures, heads)
    text = jsonlib.dumps(_document(composition, rows), ensure_ascii=False, indent=2)
    write_atomically(path.with_suffix(".json"), text + "\n")


def _document(
    composition: Composition, rows: Sequence[tuple[str, Sequence[Sample]]]
) -> dict[str, Any]:
    members = [
        {
            "asset": str(part.asset),
            "weight": part.strength.weight,
            "blocks": dict(part.strength.blocks),
            "tensors": part.lock.outputs[part.file.name].tensors,
        }
        for part in composition.components
    ]
    samples = [
        {
            "of": label,
            "prompt": sample.prompt,
            "seed": sample.seed,
            "reply": sample.output if isinstance(sample.output, str) else None,
        }
        for label, row in rows
        for sample in row
    ]
    return {
        "expression": composition.expression,
        "base": composition.base.model_dump(mode="json"),
        "members": members,
        "samples": samples,
    }
