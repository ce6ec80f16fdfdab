"""The sum of a composition's members, and how strong each is in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lorareg.registry.recipe import RecipeManifest
from lorareg.weights import algebra
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.members import Composition, read


@dataclass(frozen=True)
class Merged:
    """What a composition comes to as one adapter.

    Attributes:
        error: relative to the exact sum, or to what the method makes; 0 where nothing was left out.
        retention: member -> share of its energy that is kept.
    """

    adapter: LoraAdapter
    error: float
    retention: Mapping[str, float]


@dataclass(frozen=True)
class Measure:
    """How strong one member is in the sum, and how it points.

    Attributes:
        share: norm of its weighted delta over the norm of the sum.
        cosine: between its delta and the sum of the others.
    """

    ref: str
    share: float
    cosine: float


def build(composition: Composition) -> LoraAdapter:
    """The exact weighted sum, of rank sum r_i (``algebra.weighted_sum``); a DoRA is itself."""
    parts = _strengthened(composition)
    return parts[0][0] if _is_dora_alone(parts) else algebra.weighted_sum(parts)


def merge(composition: Composition, wanted: RecipeManifest) -> Merged | None:
    """One adapter that does what the members do together, as a recipe wants it.

    Returns:
        None where no one file can do it: the weights change from step to step.
    """
    if not wanted.is_static:
        return None
    parts = _strengthened(composition)
    adapter = parts[0][0] if _is_dora_alone(parts) else algebra.weighted_sum(parts)
    return Merged(adapter, 0.0, {part.state.ref: 1.0 for part in composition.components})


def measure(composition: Composition) -> list[Measure]:
    """Share and direction of each member, from the factors alone."""
    parts = _strengthened(composition)
    if _is_dora_alone(parts):
        return [Measure(str(composition.components[0].asset), 1.0, 0.0)]
    size = algebra.norm(algebra.weighted_sum(parts)) or 1.0
    found = []
    for index, (component, (adapter, weight)) in enumerate(
        zip(composition.components, parts, strict=True)
    ):
        others = parts[:index] + parts[index + 1 :]
        alone = algebra.weighted_sum([(adapter, weight)])
        cosine = algebra.cosine(alone, algebra.weighted_sum(others)) if others else 0.0
        found.append(Measure(str(component.asset), algebra.norm(alone) / size, cosine))
    return found


def _strengthened(composition: Composition) -> list[tuple[LoraAdapter, float]]:
    """Every member at its strength, to be added up as it is."""
    return [(algebra.at(read(part), part.strength), 1.0) for part in composition.components]


def _is_dora_alone(parts: Sequence[tuple[LoraAdapter, float]]) -> bool:
    return len(parts) == 1 and parts[0][1] == 1 and parts[0][0].is_dora
