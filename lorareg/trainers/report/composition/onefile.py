"""What a composition would be as one file, at every rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lorareg.errors import LoraregError
from lorareg.registry.lock import Output
from lorareg.registry.recipe import RecipeManifest
from lorareg.trainers.report.composition.absent import Absent
from lorareg.trainers.report.composition.curve import Curve, Step, curve
from lorareg.weights import compose, lowrank
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.compose import Merged
from lorareg.weights.members import Composition


@dataclass(frozen=True)
class OneFile:
    """The file that a recipe wants, or the exact sum, among those of other ranks.

    Attributes:
        merged: with its error and what is kept of each member.
        words: how it was made: "exact sum", "compressed to energy 0.99".
        outputs: files that are written and locked.
    """

    merged: Merged
    words: str
    curve: Curve
    outputs: Mapping[str, Output]


def one_file(
    composition: Composition, wanted: RecipeManifest, outputs: Mapping[str, Output]
) -> OneFile | Absent:
    """Build it in memory; nothing is written."""
    try:
        merged = compose.merge(composition, wanted)
        if merged is None:
            return Absent("Its weights change from step to step, so no one file can be it.")
        parts = [merged.adapter]
        if composition.method.name == "sum":
            parts = compose.strengthened(composition)
        elif wanted.compression:
            parts = [compose.build(composition)]
        truncate = wanted.compression.truncate if wanted.compression else "optimal"
        steps = lowrank.errors_by_rank(parts, truncate)
    except LoraregError as error:
        return Absent(error.sentence, error.fix)
    return OneFile(merged, _words(wanted), curve(steps, _chosen(merged, steps)), outputs)


def _chosen(merged: Merged, steps: list[Step]) -> Step:
    """The file at its size; one rank a module is on the curve, ranks of their own are beside it."""
    ranks = {layer.rank for layer in merged.adapter.layers.values()}
    rank = ranks.pop() if len(ranks) == 1 else 0
    on_curve = [step for step in steps if step[0] == rank]
    size = on_curve[0][2] if on_curve else _factors(merged.adapter) + _header(steps)
    return rank, merged.error, size


def _header(steps: list[Step]) -> int:
    """Bytes of the curve that do not grow with the rank."""
    if len(steps) < 2:
        return 0
    return 2 * steps[0][2] - steps[1][2]


def _factors(adapter: LoraAdapter) -> int:
    return sum(layer.up.nbytes + layer.down.nbytes for layer in adapter.layers.values())


def _words(wanted: RecipeManifest) -> str:
    method = "exact sum" if wanted.method.name == "sum" else f"merged by {wanted.method.name}"
    if wanted.compression is None:
        return method
    told = wanted.compression.model_dump(exclude_none=True)
    fair = ", fair to each part" if told.pop("truncate") == "fair" else ""
    (key, value), *_ = told.items()
    return f"{method}, compressed to {key.replace('_', ' ')} {value:g}{fair}"
