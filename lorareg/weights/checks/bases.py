"""Whether all members of a composition were made for one base, and change the same modules in it.

Two digests are two models. A finetune of the same family takes the other's adapters, with less
effect; that can be told only while both bases are on this disk as their locks have them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lorareg.errors import LoraregError
from lorareg.registry.bases import base, family
from lorareg.registry.bases.family import Family
from lorareg.registry.finding import Finding
from lorareg.registry.workspace import Workspace
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.members import Component

WHAT = "base"
SHOWN = 5  # modules that a finding names


def check(workspace: Workspace, components: Sequence[Component]) -> list[Finding]:
    """Compare every member's base with that of the first."""
    first, known = components[0], components[0].lock.inputs.base
    others = {part.lock.inputs.base.digest: part for part in components}
    others.pop(known.digest)
    if not others:
        return [Finding(True, WHAT, f"{known.model}, {known.digest}")]
    return [_compare(workspace, first, other) for other in others.values()]


def signatures(parts: Sequence[tuple[str, LoraAdapter]]) -> Iterator[Finding]:
    """Modules that two members give different shapes: they cannot be of one base."""
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {}
    clashes: dict[tuple[str, str], list[str]] = {}
    for name, adapter in parts:
        for module, layer in adapter.layers.items():
            own = (layer.up.shape[0], *layer.down.shape[1:])
            owner, shape = shapes.setdefault(module, (name, own))
            if shape != own:
                clashes.setdefault((owner, name), []).append(module)
    for (one, other), modules in clashes.items():
        more = f" and {len(modules) - SHOWN} more" if len(modules) > SHOWN else ""
        yield Finding(
            False,
            "modules",
            f"{one} and {other} have different shapes in {', '.join(modules[:SHOWN])}{more}",
            "compose adapters of one base: lorareg show REF names it",
        )
    if not clashes:
        yield Finding(True, "modules", f"{len(shapes)} modules, shapes agree")


def folder(workspace: Workspace, part: Component) -> Path | None:
    """The base of a member on this disk, if it is there; nothing is fetched."""
    try:
        return base.locate(part.manifest.base, workspace.root, fetch=False)
    except LoraregError:
        return None


def _compare(workspace: Workspace, first: Component, other: Component) -> Finding:
    names = f"{first.state.ref} and {other.state.ref}"
    models = f"{first.lock.inputs.base.model} and {other.lock.inputs.base.model}"
    fix = "train one of them again on the other's base"
    families = [_family(workspace, part) for part in (first, other)]
    one, two = families
    if one is None or two is None:
        why = f"{names} belong to different bases ({models}), and not both are here as they were "
        return Finding(False, WHAT, f"{why}trained on: their families cannot be compared", fix)
    if differences := one.differences(two):
        why = f"{names} belong to different bases of different families ({models}): "
        return Finding(False, WHAT, why + "; ".join(differences), fix)
    why = f"{names} belong to different finetunes of one family ({models}): each fits the other's "
    return Finding(False, WHAT, f"{why}base less well", fix, is_hard=False)


def _family(workspace: Workspace, part: Component) -> Family | None:
    wanted = part.manifest.base
    try:
        found = base.resolve(
            wanted, part.manifest.task, workspace.root, workspace.digests, fetch=False
        )
        if found.digest != part.lock.inputs.base.digest:
            return None
        return family.of(found)
    except LoraregError:
        return None
