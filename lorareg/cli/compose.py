"""``lorareg compose`` and ``lorareg generate``."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lorareg.cli.options import ExprArgument
from lorareg.cli.root import err, out
from lorareg.cli.show import Json, as_json, note, table
from lorareg.registry.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorareg.trainers.core.task import Sample
    from lorareg.weights.members import Composition


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
        Literal["recipe", "exact"],
        typer.Option(help="recipe: pins only; exact: also one merged file, the exact sum."),
    ] = "recipe",
    json: Json = False,
) -> None:
    """Combine adapters: check that they fit, measure them, and keep the result as a recipe.

    Example:
        lorareg compose style/ink:0.7+character/zhangsan:0.9 --as ink-zhangsan --output exact
    """
    from lorareg.registry.expression import Expression
    from lorareg.registry.ids import check_slug
    from lorareg.registry.recipe import RecipeManifest
    from lorareg.weights import compose as algebra
    from lorareg.weights import members, recipes

    workspace = Workspace.find()
    typed = Expression.parse(expression)
    composition = members.resolve(workspace, typed)
    chosen = name or "-with-".join(part.asset.name for part in composition.components)[:64]
    wanted = RecipeManifest.of(check_slug(chosen, "name"), members.parts_of(workspace, typed))
    lock = recipes.save(
        workspace,
        composition,
        wanted,
        algebra.merge(composition, wanted),
        write_file=output == "exact",
        overwrite=overwrite,
    )
    measures = algebra.measure(composition)
    for warning in composition.warnings:
        err.print(f"[yellow]warning[/] {warning}")
    if json:
        as_json(
            {"lock": lock.model_dump(mode="json", by_alias=True), "warnings": composition.warnings,
             "measures": [vars(measure) for measure in measures]}
        )  # fmt: skip
        return
    weights = [part.strength for part in composition.components]
    table(
        ("part", "weight", "share of the sum", "cosine to the rest"),
        [
            (each.ref, str(weight), f"{each.share:.2f}", f"{each.cosine:+.3f}")
            for each, weight in zip(measures, weights, strict=True)
        ],
    )
    out.print(f"recipe/{chosen}  {lock.fingerprint}")
    for file, facts in lock.outputs.items():
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
