"""What a composition's members come to together, and how strong each is in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lorareg.errors import LoraregError
from lorareg.registry.recipe import Compression, RecipeManifest
from lorareg.weights import algebra, lowrank
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.lowrank import Budget
from lorareg.weights.members import Composition, read
from lorareg.weights.merging import methods


@dataclass(frozen=True)
class Merged:
    """What a composition comes to as one adapter.

    Attributes:
        error: of the compression, relative to what the method makes; 0 without one.
        retention: member -> share of its energy that is kept; None where a method changed them.
        worst: module that lost most, and how much of its own delta; None if nothing was lost.
    """

    adapter: LoraAdapter
    error: float = 0.0
    retention: Mapping[str, float] | None = None
    worst: tuple[str, float] | None = None


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
    """All members put together by the composition's method; a DoRA alone is itself.

    Of a plain sum it is exact, of rank sum r_i (``algebra.weighted_sum``).
    """
    parts = strengthened(composition)
    if _is_dora_alone(parts):
        return parts[0]
    return methods.merge(parts, _names(composition), composition.method)


def merge(composition: Composition, wanted: RecipeManifest) -> Merged | None:
    """One adapter that does what the members do together, compressed as a recipe wants it.

    Args:
        composition: the members; its own method puts them together.
        wanted: for its compression.

    Returns:
        None where no one file can do it: the weights change from step to step.
    """
    if composition.is_scheduled:
        return None
    compression = wanted.compression
    if compression is None:
        return Merged(build(composition))
    if composition.method.name == "sum":
        found = lowrank.compress(strengthened(composition), budget(compression))
        kept = dict(zip(_names(composition), found.retention, strict=True))
        return Merged(found.adapter, found.error, kept, found.worst)
    found = lowrank.compress([build(composition)], budget(compression))
    return Merged(found.adapter, found.error, None, found.worst)


def guard(wanted: RecipeManifest, merged: Merged, amplification: float) -> None:
    """Hold a merge against the figures that its recipe demands.

    Raises:
        LoraregError: one is missed, or cannot be told; it names the figure.
    """
    guards = wanted.guards
    if guards.min_retention and wanted.method.name != "sum":
        raise LoraregError(
            "guards.min_retention cannot be held",
            why=f"method {wanted.method.name} changes the members before it adds them up, so what "
            "is left of each has no measure",
            fix="leave --min-retention out; lorareg compose evaluate measures what survives",
        )
    least = min((merged.retention or {}).items(), key=lambda item: item[1], default=None)
    if least and guards.min_retention and least[1] < guards.min_retention:
        raise LoraregError(
            f"only {least[1]:.1%} of {least[0]} would be left",
            why=f"guards.min_retention is {guards.min_retention:g}",
            fix="give it more room: a higher --rank, or --truncate fair",
        )
    if guards.max_amplification and amplification > guards.max_amplification:
        raise LoraregError(
            f"the members amplify each other {amplification:.2f} times",
            why=f"guards.max_amplification is {guards.max_amplification:g}",
            fix="lower a weight; lorareg compose check names the modules",
        )


def measure(composition: Composition) -> list[Measure]:
    """Share and direction of each member, from the factors alone."""
    parts = [(part, 1.0) for part in strengthened(composition)]
    if _is_dora_alone([part for part, _ in parts]):
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


def strengthened(composition: Composition) -> list[LoraAdapter]:
    """Every member at its strength, to be put together as it is."""
    return [algebra.at(read(part), part.strength) for part in composition.components]


def _names(composition: Composition) -> list[str]:
    return [str(part.asset) for part in composition.components]


def budget(wanted: Compression) -> Budget:
    """How much of the sum a recipe keeps."""
    return Budget(wanted.rank, wanted.energy, wanted.max_size, wanted.truncate)


def _is_dora_alone(parts: Sequence[LoraAdapter]) -> bool:
    return len(parts) == 1 and parts[0].is_dora
