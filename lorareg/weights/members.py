"""The members of a composition: found, verified and checked against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lorareg.errors import IntegrityError, LoraregError
from lorareg.registry import lock, recipe, versions
from lorareg.registry.expression import Expression, Part, Window
from lorareg.registry.ids import AssetId, Ref
from lorareg.registry.lock import BaseInput, Lock, RecipeLock
from lorareg.registry.manifest import ImageManifest, TextManifest
from lorareg.registry.recipe import Method, RecipeManifest, RecipePart, Schedule
from lorareg.registry.strength import Strength
from lorareg.registry.versions import State
from lorareg.registry.workspace import Workspace
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.formats import diffusers, peft

WEIGHTS_FILE = {"text-to-image": diffusers.FILE, "text-generation": peft.WEIGHTS}


@dataclass(frozen=True)
class Component:
    """One adapter of a composition, with everything a check needs.

    Attributes:
        state: which release of it, or what is checked out.
        strength: linear factors on its delta.
        windows: (from, to, factor) over the denoising's progress from 0 to 1; outside of all of
            them the adapter is off. Empty: on all the time.
    """

    state: State
    strength: Strength
    file: Path
    windows: tuple[Window, ...] = ()

    @property
    def asset(self) -> AssetId:
        """The adapter, in whatever state."""
        return self.state.asset

    @property
    def manifest(self) -> ImageManifest | TextManifest:
        """What people want of it, in that state."""
        return self.state.manifest

    @property
    def lock(self) -> Lock:
        """What was trained."""
        return self.state.lock


@dataclass(frozen=True)
class Composition:
    """Members that fit each other.

    Attributes:
        warnings: what may go wrong although it can be built.
        method: how the members become one delta.
        schedule: how they share the denoising.
        negative_prompt: of a recipe: what its pictures should not show.
    """

    components: tuple[Component, ...]
    warnings: tuple[str, ...]
    method: Method = Method()
    schedule: Schedule = Schedule()
    negative_prompt: str = ""

    @property
    def task(self) -> str:
        """The task of all members."""
        return self.components[0].manifest.task

    @property
    def base(self) -> BaseInput:
        """The base of all members."""
        return self.components[0].lock.inputs.base

    @property
    def is_scheduled(self) -> bool:
        """Whether something changes from step to step of the denoising."""
        return self.schedule.mode != "sum" or any(part.windows for part in self.components)

    @property
    def expression(self) -> str:
        """The composition with every weight written out."""
        return "+".join(
            str(Part(Ref.parse(p.state.ref), p.strength.weight, p.strength.ordered, p.windows))
            for p in self.components
        )


@dataclass(frozen=True)
class _Wanted:
    """A member before it is found."""

    state: State
    strength: Strength
    windows: tuple[Window, ...]

    @property
    def is_plain(self) -> bool:
        return not (self.strength.blocks or self.windows)


def resolve(workspace: Workspace, expression: Expression) -> Composition:
    """Find the members, flatten recipes and verify the weights; ``checks.run`` says if they fit.

    Raises:
        NotFoundError: a member is unknown, untrained or not pulled.
        IntegrityError: weights that are not the lock's.
        LoraregError: members of different tasks; a recipe that contains itself; a DoRA
            that is not alone at weight 1.
    """
    alone = recipe_alone(workspace, expression)
    if alone is None:
        return _resolved(workspace, expression, ())
    found = of_recipe(workspace, alone)
    if expression.parts[0].ref.version:
        return found
    return replace(found, warnings=(*found.warnings, *_moved(workspace, alone, found)))


def of_recipe(workspace: Workspace, wanted: RecipeManifest) -> Composition:
    """What a recipe's manifest says, whether it is in the registry yet or not; raises likewise."""
    found = _resolved(workspace, wanted.expression, (wanted.id,))
    return replace(
        found,
        method=wanted.method,
        schedule=wanted.schedule,
        negative_prompt=wanted.negative_prompt,
    )


def recipe_alone(workspace: Workspace, expression: Expression) -> RecipeManifest | None:
    """The recipe that an expression is, whose method and schedule are then the composition's."""
    first = expression.parts[0]
    if len(expression.parts) > 1 or first not in (Part(first.ref), Part(first.ref, 1.0)):
        return None
    asset = workspace.find_asset(first.ref, any_version=True)
    return versions.recipe_of(workspace, asset, first.ref) if asset.kind == recipe.KIND else None


def _resolved(
    workspace: Workspace, expression: Expression, above: tuple[AssetId, ...]
) -> Composition:
    wanted = _merge(_flatten(workspace, expression, 1.0, above))
    components = tuple(_component(workspace, each) for each in wanted)
    _check_tasks(components)
    _refuse_dora(components)
    return Composition(components, tuple(_warnings(components)))


def _moved(workspace: Workspace, wanted: RecipeManifest, found: Composition) -> list[str]:
    """A warning if a recipe's members are no longer those that its lock pins."""
    path = workspace.folder(wanted.id).lock
    known = lock.load(path) if path.is_file() else None
    if not isinstance(known, RecipeLock):
        return []
    then = {m.ref: (m.tensors, m.strength, m.windows) for m in known.members}
    now = {
        part.state.ref: (part.lock.outputs[part.file.name].tensors, part.strength, part.windows)
        for part in found.components
    }
    moved = [ref for ref in dict.fromkeys([*now, *then]) if now.get(ref) != then.get(ref)]
    if not moved:
        return []
    return [
        f"{wanted.id} is no longer what its lock pins ({', '.join(moved)}), and is used as it is "
        f"now; to see the change: lorareg compose upgrade {wanted.id} --dry-run"
    ]


def parts_of(workspace: Workspace, expression: Expression) -> tuple[RecipePart, ...]:
    """The parts as a manifest keeps them: recipes and ranges as they were typed, with weights."""
    return tuple(_part_of(workspace, part) for part in expression.parts)


def _part_of(workspace: Workspace, part: Part) -> RecipePart:
    asset, weight = workspace.find_asset(part.ref, any_version=True), part.weight
    if weight is None and asset.kind != recipe.KIND:
        weight = versions.find(workspace, part.ref).manifest.weight.default
    return RecipePart(
        ref=str(replace(part.ref, kind=asset.kind)),
        weight=1.0 if weight is None else weight,
        blocks=dict(part.blocks),
        windows=part.windows,
    )


def read(part: Component) -> LoraAdapter:
    """The weights of a member."""
    return read_file(part.manifest.task, part.file)


def read_file(task: str, file: Path) -> LoraAdapter:
    """The weights of an asset of the registry: diffusers' form for pictures, PEFT's for text."""
    return diffusers.read(file) if task == "text-to-image" else peft.read(file.parent)


def _flatten(
    workspace: Workspace, expression: Expression, factor: float, above: tuple[AssetId, ...]
) -> list[_Wanted]:
    wanted: list[_Wanted] = []
    for part in expression.parts:
        asset = workspace.find_asset(part.ref, any_version=True)
        if asset in above:
            raise LoraregError(
                f"{asset} contains itself",
                why=" > ".join(map(str, (*above, asset))),
                fix=f"take it out of the parts of {above[-1]}",
            )
        if asset.kind == recipe.KIND:
            if part.blocks or part.windows:
                raise LoraregError(
                    f"{part}: a recipe takes one weight",
                    why="its members have blocks and steps of their own",
                    fix=f"write its members out: lorareg show {asset}",
                )
            inner = versions.recipe_of(workspace, asset, part.ref)
            if inner.method.name != "sum" or inner.schedule.mode != "sum":
                raise LoraregError(
                    f"{asset} cannot be a part of something else",
                    why="its method or schedule holds for all of its parts at once",
                    fix=f"use it alone: {asset}; or write its members out: lorareg show {asset}",
                )
            outer = 1.0 if part.weight is None else part.weight
            wanted += _flatten(workspace, inner.expression, factor * outer, (*above, asset))
            continue
        state = versions.find(workspace, part.ref)
        weight = state.manifest.weight.default if part.weight is None else part.weight
        strength = Strength(weight, part.blocks).times(factor)
        wanted.append(_Wanted(state, strength, part.windows))
    return wanted


def _merge(wanted: Sequence[_Wanted]) -> list[_Wanted]:
    """Add up the weights of an adapter that is named twice."""
    total: dict[AssetId, _Wanted] = {}
    for each in wanted:
        before = total.setdefault(each.state.asset, each)
        if before is each:
            continue
        if not (before.is_plain and each.is_plain and before.state == each.state):
            raise LoraregError(
                f"{each.state.asset} is named twice",
                why="weights of blocks and steps, or of two releases, cannot be added up",
                fix="name it once",
            )
        weight = before.strength.weight + each.strength.weight
        total[each.state.asset] = replace(before, strength=Strength(weight))
    return list(total.values())


def _component(workspace: Workspace, wanted: _Wanted) -> Component:
    state = wanted.state
    file = versions.weights(workspace, state) / WEIGHTS_FILE[state.manifest.task]
    if file.name not in state.lock.outputs:
        raise IntegrityError(
            f"the lock of {state.ref} promises no {file.name}",
            fix=f"lorareg train {state.asset}",
        )
    return Component(state, wanted.strength, file, wanted.windows)


def _check_tasks(components: Sequence[Component]) -> None:
    first = components[0]
    for other in components[1:]:
        if other.manifest.task != first.manifest.task:
            raise LoraregError(
                f"{first.asset} and {other.asset} do different things",
                why=f"{first.manifest.task} and {other.manifest.task}",
                fix="compose adapters of one task",
            )


def _refuse_dora(components: Sequence[Component]) -> None:
    for part in components:
        if part.manifest.lora.use_dora and (len(components) > 1 or part.strength != Strength(1.0)):
            raise LoraregError(
                f"{part.asset} is a DoRA, which cannot be composed or weighted",
                why="it sets the length of every row of base + delta: in a sum, or at another "
                "weight, the same numbers mean something else",
                fix=f"use it alone: {part.asset}:1; or set lora.use_dora: false in its manifest "
                f"and lorareg train {part.asset}",
            )


def _warnings(components: Sequence[Component]) -> list[str]:
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
