"""What members must have in common before anything is computed, from their manifests alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lorareg.errors import LoraregError
from lorareg.registry.strength import Strength

if TYPE_CHECKING:
    from lorareg.weights.members import Component


def refuse_other_tasks(components: Sequence[Component]) -> None:
    """Refuse members that do different things.

    Raises:
        LoraregError: they do.
    """
    first = components[0]
    for other in components[1:]:
        if other.manifest.task != first.manifest.task:
            raise LoraregError(
                f"{first.asset} and {other.asset} do different things",
                why=f"{first.manifest.task} and {other.manifest.task}",
                fix="compose adapters of one task",
            )


def refuse_dora(components: Sequence[Component]) -> None:
    """Refuse a DoRA that is not alone at weight 1.

    Raises:
        LoraregError: there is one.
    """
    for part in components:
        if part.manifest.lora.use_dora and (len(components) > 1 or part.strength != Strength(1.0)):
            raise LoraregError(
                f"{part.asset} is a DoRA, which cannot be composed or weighted",
                why="it sets the length of every row of base + delta: in a sum, or at another "
                "weight, the same numbers mean something else",
                fix=f"use it alone: {part.asset}:1; or set lora.use_dora: false in its manifest "
                f"and lorareg train {part.asset}",
            )


def warnings(components: Sequence[Component]) -> list[str]:
    """Weights outside of what is recommended, a sentence each."""
    found = []
    for part in components:
        span = part.manifest.weight.range
        outside = [
            weight
            for weight in (part.strength.weight, *part.strength.blocks.values())
            if span and not span[0] <= weight <= span[1]
        ]
        if span and outside:
            found.append(
                f"{part.asset}: weight {outside[0]:g} is outside of the recommended "
                f"{span[0]:g} to {span[1]:g}"
            )
    return found
