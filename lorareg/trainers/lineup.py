"""Which compositions stand side by side on a sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lorareg.registry.expression import Axis
from lorareg.registry.recipe import Method
from lorareg.weights.members import Composition


@dataclass(frozen=True)
class Entry:
    """One composition of a sheet, and what it is called there.

    Attributes:
        composition: None for the base alone.
    """

    label: str
    composition: Composition | None


def side_by_side(composition: Composition) -> list[Entry]:
    """The base, each member alone, all but one (from three members on), and all.

    Every member keeps the weight that it has in the composition.
    """
    parts = composition.components
    found = [Entry("base", None)]
    if len(parts) > 1:
        found += [
            Entry(part.state.ref, replace(composition, components=(part,), method=Method()))
            for part in parts
        ]
    if len(parts) > 2:
        for part in parts:
            others = tuple(other for other in parts if other is not part)
            rest = replace(composition, components=others)
            found.append(Entry(f"without {part.state.ref}", rest))
    return [*found, Entry("all" if len(parts) > 1 else parts[0].state.ref, composition)]


def swept(axes: Sequence[Axis], cells: Sequence[Composition]) -> list[Entry]:
    """One entry for each cell of a sweep, named by its weights; the last axis changes fastest."""
    labels = [""]
    for axis in axes:
        labels = [
            f"{label}, {axis.ref}:{weight:g}".removeprefix(", ")
            for label in labels
            for weight in axis.weights
        ]
    return [Entry(label, cell) for label, cell in zip(labels, cells, strict=True)]
