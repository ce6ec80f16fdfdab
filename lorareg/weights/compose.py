"""A composition: members found, verified and pinned; summed exactly; kept as a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import IntegrityError, LoraregError, NotFoundError
from lorareg.registry import digest, lock, recipe
from lorareg.registry.base import public_name
from lorareg.registry.ids import AssetId, check_slug
from lorareg.registry.lock import BaseInput, Lock, Member, RecipeLock
from lorareg.registry.manifest import ImageManifest, TextManifest
from lorareg.registry.recipe import Expression
from lorareg.registry.workspace import Workspace
from lorareg.weights import algebra
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.formats import diffusers, peft

WEIGHTS_FILE = {"text-to-image": diffusers.FILE, "text-generation": peft.WEIGHTS}


@dataclass(frozen=True)
class Component:
    """One adapter of a composition, with everything a check needs.

    Attributes:
        weight: linear factor on its delta.
    """

    asset: AssetId
    weight: float
    manifest: ImageManifest | TextManifest
    lock: Lock
    file: Path


@dataclass(frozen=True)
class Composition:
    """Members that fit each other.

    Attributes:
        warnings: what may go wrong although it can be built.
    """

    components: tuple[Component, ...]
    warnings: tuple[str, ...]

    @property
    def task(self) -> str:
        """The task of all members."""
        return self.components[0].manifest.task

    @property
    def base(self) -> BaseInput:
        """The base of all members."""
        return self.components[0].lock.inputs.base

    @property
    def expression(self) -> str:
        """The composition with every weight written out."""
        return "+".join(f"{part.asset}:{part.weight!r}" for part in self.components)


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


def resolve(workspace: Workspace, expression: Expression) -> Composition:
    """Find the members, flatten recipes, verify the weights and check that they fit.

    Raises:
        NotFoundError: a member is unknown, untrained or not pulled.
        IntegrityError: weights that are not the lock's.
        LoraregError: members of different bases or tasks; a recipe that contains itself; a DoRA
            that is not alone at weight 1.
    """
    parts = _merge(_flatten(workspace, expression, 1.0, ()))
    components = tuple(_component(workspace, asset, weight) for asset, weight in parts)
    _check_bases(components)
    _refuse_dora(components)
    return Composition(components, tuple(_warnings(components)))


def build(composition: Composition) -> LoraAdapter:
    """The exact weighted sum, of rank sum r_i (``algebra.weighted_sum``); a DoRA is itself."""
    parts = [(_read(part), part.weight) for part in composition.components]
    return parts[0][0] if _is_dora_alone(parts) else algebra.weighted_sum(parts)


def measure(composition: Composition) -> list[Measure]:
    """Share and direction of each member, from the factors alone."""
    parts = [(_read(part), part.weight) for part in composition.components]
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


def save(
    workspace: Workspace,
    composition: Composition,
    name: str,
    built: LoraAdapter | None,
    *,
    overwrite: bool = False,
) -> RecipeLock:
    """Write ``manifests/recipe/<name>/``: manifest, lock, and the weights if they were built.

    Raises:
        LoraregError: there is a recipe of that name with other parts, or an adapter.
    """
    asset = AssetId(recipe.KIND, check_slug(name, "name"))
    folder = workspace.folder(asset)
    if not overwrite:
        _refuse_other(workspace, asset, composition)
    pinned = tuple(_pin(workspace, part) for part in composition.components)
    fingerprint = digest.of_json(
        [[member.tensors, member.weight] for member in pinned], "recipe-sha256-v1"
    )
    outputs = {}
    if built is not None:
        _refuse_merge(composition)
        file = _write(folder.weights, composition, built, str(asset), fingerprint)
        outputs = {path.name: lock.output(path) for path in file}
        workspace.store.track(folder.weights, remote=workspace.settings.remotes.get("team"))
    parts = [(str(part.asset), part.weight) for part in composition.components]
    recipe.save(folder.manifest, name, parts)
    written = RecipeLock(
        asset=str(asset),
        task=composition.components[0].manifest.task,
        base=composition.base,
        members=pinned,
        fingerprint=fingerprint,
        outputs=outputs,
    )
    lock.save(folder.lock, written)
    return written


def _flatten(
    workspace: Workspace, expression: Expression, factor: float, above: tuple[AssetId, ...]
) -> list[tuple[AssetId, float]]:
    parts: list[tuple[AssetId, float]] = []
    for part in expression.parts:
        asset = workspace.find_asset(part.ref)
        if asset in above:
            raise LoraregError(f"recipe {asset} contains itself", why=" > ".join(map(str, above)))
        if asset.kind == recipe.KIND:
            inner = recipe.load(workspace.folder(asset).manifest, asset).expression
            outer = 1.0 if part.weight is None else part.weight
            parts += _flatten(workspace, inner, factor * outer, (*above, asset))
            continue
        recommended = workspace.load_manifest(asset).weight.default
        parts.append((asset, factor * (recommended if part.weight is None else part.weight)))
    return parts


def _merge(parts: Sequence[tuple[AssetId, float]]) -> list[tuple[AssetId, float]]:
    """Add up the weights of an adapter that is named twice."""
    total: dict[AssetId, float] = {}
    for asset, weight in parts:
        total[asset] = total.get(asset, 0.0) + weight
    return list(total.items())


def _component(workspace: Workspace, asset: AssetId, weight: float) -> Component:
    manifest = workspace.load_manifest(asset)
    known = workspace.load_lock(asset)
    if known is None:
        raise NotFoundError(f"{asset} is not trained yet", fix=f"lorareg train {asset}")
    file = workspace.folder(asset).weights / WEIGHTS_FILE[manifest.task]
    if not file.is_file():
        raise NotFoundError(f"the weights of {asset} are not here", fix=f"lorareg pull {asset}")
    if not workspace.weights_match(workspace.folder(asset), known):
        raise IntegrityError(
            f"{asset}: weights/{file.name} does not match its lock",
            why=f"the lock says {known.outputs[file.name].sha256}",
            fix=f"restore it: lorareg pull {asset}, or train again",
        )
    return Component(asset, weight, manifest, known, file)


def _check_bases(components: Sequence[Component]) -> None:
    first = components[0]
    for other in components[1:]:
        if other.manifest.task != first.manifest.task:
            raise LoraregError(
                f"{first.asset} and {other.asset} do different things",
                why=f"{first.manifest.task} and {other.manifest.task}",
                fix="compose adapters of one task",
            )
        if other.lock.inputs.base.digest != first.lock.inputs.base.digest:
            raise LoraregError(
                f"{first.asset} and {other.asset} belong to different bases",
                why=f"{first.lock.inputs.base.model} and {other.lock.inputs.base.model}: "
                "a delta means nothing on another model",
                fix="train one of them again on the other's base",
            )


def _is_dora_alone(parts: Sequence[tuple[LoraAdapter, float]]) -> bool:
    return len(parts) == 1 and parts[0][1] == 1 and parts[0][0].is_dora


def _refuse_dora(components: Sequence[Component]) -> None:
    for part in components:
        if part.manifest.lora.use_dora and (len(components) > 1 or part.weight != 1):
            raise LoraregError(
                f"{part.asset} is a DoRA, which cannot be composed or weighted",
                why="it sets the length of every row of base + delta: in a sum, or at another "
                "weight, the same numbers mean something else",
                fix=f"use it alone: {part.asset}:1; or set lora.use_dora: false in its manifest "
                f"and lorareg train {part.asset}",
            )


def _warnings(components: Sequence[Component]) -> list[str]:
    found = []
    triggers: dict[str, AssetId] = {}
    for part in components:
        trigger = part.manifest.trigger
        if trigger is None:
            continue
        other = triggers.setdefault(trigger.casefold(), part.asset)
        if other != part.asset:
            found.append(f"{other} and {part.asset} share the trigger {trigger!r}")
    for part in components:
        span = part.manifest.weight.range
        if span and not span[0] <= part.weight <= span[1]:
            found.append(
                f"{part.asset}: weight {part.weight:g} is outside of the recommended "
                f"{span[0]:g} to {span[1]:g}"
            )
    return found


def _refuse_other(workspace: Workspace, asset: AssetId, composition: Composition) -> None:
    twins = [found for found in workspace.assets() if found.name == asset.name and found != asset]
    if twins:
        raise LoraregError(
            f"{asset.name!r} is the name of {twins[0]}",
            why="a second asset of that name would make the bare name ambiguous everywhere",
            fix=f"choose another: --as {asset.name}-mix",
        )
    path = workspace.folder(asset).manifest
    if not path.is_file():
        return
    before = [(part.ref, part.weight) for part in recipe.load(path, asset).parts]
    if before != [(str(part.asset), part.weight) for part in composition.components]:
        raise LoraregError(
            f"{asset} exists and has other parts",
            why="it is " + "+".join(f"{ref}:{weight:g}" for ref, weight in before),
            fix="choose another name: --as NAME, or replace it: --overwrite",
        )


def _refuse_merge(composition: Composition) -> None:
    closed = [part for part in composition.components if not part.manifest.scope.merge]
    if closed:
        raise LoraregError(
            f"{closed[0].asset} may not go into merged weights",
            why="its manifest says scope.merge: false",
            fix="leave --output exact out: the recipe alone is allowed",
        )


def _read(part: Component) -> LoraAdapter:
    if part.manifest.task == "text-to-image":
        return diffusers.read(part.file)
    return peft.read(part.file.parent)


def _pin(workspace: Workspace, part: Component) -> Member:
    output = part.lock.outputs[part.file.name]
    if output.tensors is None:
        raise IntegrityError(f"{part.asset}: its lock has no tensor digest")
    return Member(
        ref=str(part.asset),
        weight=part.weight,
        commit=workspace.history.head(),
        file=part.file.name,
        sha256=output.sha256,
        tensors=output.tensors,
    )


def _write(
    folder: Path, composition: Composition, built: LoraAdapter, asset: str, fingerprint: str
) -> list[Path]:
    notes = {
        "lorareg.asset": asset,
        "lorareg.fingerprint": fingerprint,
        "lorareg.merged_from": composition.expression,
    }
    if composition.task == "text-to-image":
        diffusers.write(folder / diffusers.FILE, built, notes)
        return [folder / diffusers.FILE]
    peft.write(folder, built, public_name(composition.components[0].manifest.base), notes)
    return [folder / peft.WEIGHTS, folder / peft.CONFIG]
