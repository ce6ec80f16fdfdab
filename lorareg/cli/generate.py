"""``lorareg generate``: pictures or replies of a composition, of its parts, of its weights."""

from __future__ import annotations

import json as jsonlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorareg.cli.compose_check import checked
from lorareg.cli.options import complete_ref
from lorareg.cli.root import out
from lorareg.cli.show import Json, as_json, note, table
from lorareg.errors import LoraregError
from lorareg.registry.expression import Sweep
from lorareg.registry.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorareg.registry.sampling import Sampling
    from lorareg.trainers.core.task import Sample
    from lorareg.trainers.lineup import Entry
    from lorareg.weights.members import Component, Composition


@dataclass(frozen=True)
class _Row:
    """A composition and what came out, prompt by prompt, for each the seeds."""

    entry: Entry
    samples: Sequence[Sample]


def generate(
    expression: Annotated[
        str,
        typer.Argument(
            metavar="EXPR",
            help="style/ink:0.7+character/zhangsan:0.9; style/ink:0.4..1/4 sweeps a weight.",
            autocompletion=complete_ref,
        ),
    ],
    prompt: Annotated[list[str], typer.Option(help="What to generate; may be given repeatedly.")],
    seed: Annotated[int, typer.Option(min=0, help="Of the first output.")] = 0,
    count: Annotated[int, typer.Option(min=1, max=16, help="Seeds a prompt.")] = 1,
    grid: Annotated[
        bool, typer.Option("--grid", help="Show base, each part alone, all but one, and all.")
    ] = False,
    to: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="PNG to write (pictures).")
    ] = Path("generated.png"),
    json: Json = False,
) -> None:
    """Generate with a composition, loaded at run time, with fixed seeds.

    Pictures go into one PNG with a JSON beside it, replies to stdout. Nothing is merged.

    Example:
        lorareg generate style/ink:0.4..1/4+character/zhangsan --prompt "zzhangsan, portrait"
    """
    from lorareg.registry.access import uses
    from lorareg.registry.expression import expand

    sweep = expand(expression)
    _refuse_contradictions(sweep, grid, prompts=len(prompt), count=count)
    workspace = Workspace.find()
    cells = _cells(workspace, sweep)
    out_name = to.name if cells[0].task == "text-to-image" else None
    uses.record(workspace, "generate", expression, {"members": cells[0].used, "out": out_name})
    note("loading libraries")
    from lorareg.trainers import lineup
    from lorareg.trainers.generate import Generator

    like = cells[0].components[0].manifest
    generator = Generator(workspace, like, like.sample)
    entries = lineup.side_by_side(cells[0]) if grid else lineup.swept(sweep.axes, cells)
    rows = []
    for number, entry in enumerate(entries, 1):
        note(f"{number}/{len(entries)} {entry.label or cells[0].expression}")
        seeds = range(seed, seed + count)
        found = [s for each in seeds for s in generator.samples(entry.composition, prompt, each)]
        rows.append(_Row(entry, found))
    document = _document(cells[0], sweep, like.sample, rows)
    if cells[0].task == "text-to-image":
        document["picture"] = to.name
        _write(to, sweep, rows, document)
    if json:
        as_json(document)
    elif cells[0].task == "text-to-image":
        out.print(f"wrote {to} and {to.with_suffix('.json').name}", markup=False)
    else:
        _show_replies(rows)


def _refuse_contradictions(sweep: Sweep, grid: bool, *, prompts: int, count: int) -> None:
    if grid and sweep.axes:
        raise LoraregError(
            "--grid and a sweep are two different sheets",
            fix="leave --grid out, or write one weight for each part",
        )
    if len(sweep.axes) == 2 and prompts * count > 1:
        raise LoraregError(
            "a sweep of two weights takes one prompt and one seed",
            why="rows are the first weight and columns the second",
            fix="give --prompt once and leave --count out, or sweep one weight",
        )


def _cells(workspace: Workspace, sweep: Sweep) -> list[Composition]:
    """Every cell's members; checked at the strongest weights, since it is the same members."""
    from lorareg.weights.members import resolve

    cells = [resolve(workspace, cell) for cell in sweep.cells]
    strongest = max(cells, key=lambda cell: sum(abs(p.strength.weight) for p in cell.components))
    checked(workspace, strongest, use="generate")
    for warning in strongest.warnings:
        note(f"warning {warning}")
    return cells


def _write(path: Path, sweep: Sweep, rows: Sequence[_Row], document: dict[str, Any]) -> None:
    from PIL.Image import Image

    from lorareg.registry.files import write_atomically
    from lorareg.trainers.report.grid import save_grid

    sheet = [[s.output for s in row.samples if isinstance(s.output, Image)] for row in rows]
    labels = [row.entry.label for row in rows]
    heads = [f"{sample.prompt} [{sample.seed}]" for sample in rows[0].samples]
    if len(sweep.axes) == 2:
        first, second = sweep.axes
        width = len(second.weights)
        flat = [picture for pictures in sheet for picture in pictures]
        sheet = [flat[start : start + width] for start in range(0, len(flat), width)]
        labels = [f"{first.ref}:{weight:g}" for weight in first.weights]
        heads = [f"{second.ref}:{weight:g}" for weight in second.weights]
    save_grid(path, list(zip(labels, sheet, strict=True)), heads)
    text = jsonlib.dumps(document, ensure_ascii=False, indent=2)
    write_atomically(path.with_suffix(".json"), text + "\n")


def _show_replies(rows: Sequence[_Row]) -> None:
    from rich.markup import escape

    if len(rows) == 1:
        for sample in rows[0].samples:
            out.print(f"{sample.prompt}\n{sample.output}\n", markup=False)
        return
    asked = range(len(rows[0].samples))
    lines = [(row.samples[number], row.entry.label) for number in asked for row in rows]
    told = [(one.prompt, label, str(one.output).strip()) for one, label in lines]
    table(("prompt", "of", "answer"), [tuple(map(escape, line)) for line in told])


def _document(
    composition: Composition, sweep: Sweep, sampling: Sampling, rows: Sequence[_Row]
) -> dict[str, Any]:
    """Everything that decides the outputs: pins, weights, seeds, base; names of files, no paths."""
    from lorareg.weights.checks.run import written

    how = ("steps", "guidance") if composition.task == "text-to-image" else ("max_new_tokens",)
    return {
        "expression": "+".join(map(str, written(composition))),
        "base": composition.base.model_dump(mode="json"),
        "members": [_pin(part) for part in composition.components],
        "method": composition.method.model_dump(mode="json"),
        "schedule": composition.schedule.model_dump(mode="json"),
        "negative_prompt": composition.negative_prompt,
        "sampling": {key: getattr(sampling, key) for key in how},
        "sweep": [vars(axis) for axis in sweep.axes],
        "samples": [
            {
                "of": row.entry.label or "all",
                "weights": _weights(row.entry.composition),
                "prompt": sample.prompt,
                "seed": sample.seed,
                "reply": sample.output if isinstance(sample.output, str) else None,
            }
            for row in rows
            for sample in row.samples
        ],
    }


def _pin(part: Component) -> dict[str, Any]:
    output = part.lock.outputs[part.file.name]
    return {
        "asset": str(part.asset),
        "version": part.state.version,
        "commit": part.state.commit,
        "weight": part.strength.weight,
        "blocks": dict(part.strength.blocks),
        "windows": part.windows,
        "file": part.file.name,
        "sha256": output.sha256,
        "tensors": output.tensors,
    }


def _weights(composition: Composition | None) -> dict[str, float]:
    parts = composition.components if composition else ()
    return {part.state.ref: part.strength.weight for part in parts}
