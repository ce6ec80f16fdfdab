"""A composition kept as a recipe: its members pinned, its merged file written."""

from __future__ import annotations

from pathlib import Path

from lorareg.errors import IntegrityError, LoraregError
from lorareg.registry import digest, lock, recipe
from lorareg.registry.base import public_name
from lorareg.registry.ids import AssetId, check_slug
from lorareg.registry.lock import Member, RecipeLock
from lorareg.registry.workspace import Workspace
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.formats import diffusers, peft
from lorareg.weights.members import Component, Composition


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
    pinned = tuple(_pin(part) for part in composition.components)
    fingerprint = digest.of_json([_identity(member) for member in pinned], "recipe-sha256-v1")
    outputs = {}
    if built is not None:
        _refuse_merge(composition)
        file = _write(folder.weights, composition, built, str(asset), fingerprint)
        outputs = {path.name: lock.output(path) for path in file}
        workspace.store.track(folder.weights, remote=workspace.settings.remotes.get("team"))
    recipe.save(folder.manifest, name, _parts(composition))
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
    before = recipe.load(path, asset).parts
    if before != _parts(composition):
        raise LoraregError(
            f"{asset} exists and has other parts",
            why="it is " + "+".join(str(part.part) for part in before),
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


def _parts(composition: Composition) -> tuple[recipe.RecipePart, ...]:
    return tuple(
        recipe.RecipePart(
            ref=part.wanted,
            weight=part.strength.weight,
            blocks=dict(part.strength.blocks),
            windows=part.windows,
        )
        for part in composition.components
    )


def _identity(member: Member) -> list[object]:
    """What of a member decides the result; one weight alone is written as it always was."""
    rest = [member.blocks, member.windows] if member.blocks or member.windows else []
    return [member.tensors, member.weight, *rest]


def _pin(part: Component) -> Member:
    output = part.lock.outputs[part.file.name]
    if output.tensors is None:
        raise IntegrityError(f"{part.asset}: its lock has no tensor digest")
    return Member(
        ref=part.state.ref,
        weight=part.strength.weight,
        blocks=dict(part.strength.blocks),
        windows=part.windows,
        commit=part.state.commit,
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
