"""The members of a composition: found, verified and checked against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lorareg.errors import IntegrityError, LoraregError
from lorareg.registry import lock, recipe, versions
from lorareg.registry.access import uses
from lorareg.registry.expression import Expression, Part, Window
from lorareg.registry.ids import AssetId, Ref
from lorareg.registry.lock import BaseInput, Lock, RecipeLock
from lorareg.registry.manifest import ImageManifest, TextManifest
from lorareg.registry.recipe import Method, RecipeManifest, RecipePart, Schedule
from lorareg.registry.strength import Strength
from lorareg.registry.versions import State
from lorareg.registry.workspace import Workspace
from lorareg.weights import company
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
        recipes: that it was written as, or that were parts of it: recipe/name, recipe/name@v1.0.0.
    """

    components: tuple[Component, ...]
    warnings: tuple[str, ...]
    method: Method = Method()
    schedule: Schedule = Schedule()
    negative_prompt: str = ""
    recipes: tuple[str, ...] = ()

    @property
    def states(self) -> list[tuple[AssetId, str | None]]:
        """Its members, and which release of each."""
        return [(part.asset, part.state.version) for part in self.components]

    @property
    def used(self) -> list[dict[str, str | None]]:
        """Its members for the log of uses."""
        outputs = [part.lock.outputs[part.file.name] for part in self.components]
        refs = [part.state.ref for part in self.components]
        return [uses.used(ref, out.tensors) for ref, out in zip(refs, outputs, strict=True)]

    @property
    def recipe_states(self) -> list[tuple[AssetId, str | None]]:
        """The recipes that it came by, and which release of each."""
        parted = (ref.partition("@") for ref in self.recipes)
        return [(AssetId.parse(name), version or None) for name, _, version in parted]

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
    if version := versions.version_of(workspace, alone.id, expression.parts[0].ref):
        found = replace(found, recipes=(f"{alone.id}@{version}", *found.recipes[1:]))
    if expression.parts[0].ref.version or expression.parts[0].ref.channel:
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


def outline(workspace: Workspace, wanted: RecipeManifest) -> Composition:
    """What a recipe comes to by the locks of its members; their weights need not be here."""
    flat = _merge(_flatten(workspace, wanted.expression, 1.0, (wanted.id,), []))
    files = [Path(WEIGHTS_FILE[each.state.manifest.task]) for each in flat]
    parts = (Component(w.state, w.strength, f, w.windows) for w, f in zip(flat, files, strict=True))
    return Composition(tuple(parts), ())


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
    recipes = [str(asset) for asset in above]
    wanted = _merge(_flatten(workspace, expression, 1.0, above, recipes))
    components = tuple(_component(workspace, each) for each in wanted)
    company.refuse_other_tasks(components)
    company.refuse_dora(components)
    return Composition(components, tuple(company.warnings(components)), recipes=tuple(recipes))


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
    """The parts as a manifest keeps them: recipes and ranges as they were typed, with weights.

    A channel is replaced by the release that it points to now: it moves, and what was composed is
    to stay what it is.
    """
    return tuple(_part_of(workspace, part) for part in expression.parts)


def _part_of(workspace: Workspace, part: Part) -> RecipePart:
    asset, weight = workspace.find_asset(part.ref, any_version=True), part.weight
    ref = replace(part.ref, kind=asset.kind)
    if ref.channel:
        ref = replace(ref, at=versions.version_of(workspace, asset, ref))
    if weight is None and asset.kind != recipe.KIND:
        weight = versions.find(workspace, ref).manifest.weight.default
    return RecipePart(
        ref=str(ref),
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
    workspace: Workspace,
    expression: Expression,
    factor: float,
    above: tuple[AssetId, ...],
    recipes: list[str],
) -> list[_Wanted]:
    """The adapters behind an expression; the recipes on the way are added to ``recipes``."""
    wanted: list[_Wanted] = []
    for part in expression.parts:
        if above:  # a recipe is to be what it was
            versions.fixed(part.ref)
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
            version = versions.version_of(workspace, asset, part.ref)
            recipes.append(f"{asset}@{version}" if version else str(asset))
            line = (*above, asset)
            wanted += _flatten(workspace, inner.expression, factor * outer, line, recipes)
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
