"""A composition kept as a recipe: its members pinned, its merged file written and recognisable."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import IntegrityError, LoraregError
from lorareg.registry import digest, lock, recipe
from lorareg.registry.base import public_name
from lorareg.registry.lock import Member, RecipeLock
from lorareg.registry.recipe import RecipeManifest
from lorareg.registry.workspace import Workspace
from lorareg.weights import probe, provenance
from lorareg.weights.compose import Merged
from lorareg.weights.formats import diffusers, peft
from lorareg.weights.members import Component, Composition

SHAPING = ("method", "compression", "schedule")
"""Keys of a manifest that decide, beside the parts, what comes out."""


@dataclass(frozen=True)
class Change:
    """One member, or key of the method, that is no longer as it was locked."""

    member: str
    before: str
    after: str


def save(
    workspace: Workspace,
    composition: Composition,
    wanted: RecipeManifest,
    merged: Merged | None,
    *,
    write_file: bool,
    overwrite: bool = False,
) -> RecipeLock:
    """Write ``manifests/recipe/<name>/``: manifest, lock, and the merged file if it is wanted.

    Args:
        workspace: the registry.
        composition: the members, found and checked.
        wanted: the manifest to write.
        merged: what the members come to; None where it changes from step to step, or is a DoRA.
        write_file: whether the weights are written too.
        overwrite: whether a recipe of that name with other parts may be replaced.

    Raises:
        LoraregError: there is a recipe of that name with other parts, or an adapter.
    """
    asset, folder = wanted.id, workspace.folder(wanted.id)
    if not overwrite:
        _refuse_other(workspace, wanted)
    pins = RecipeLock(
        asset=str(asset),
        task=composition.task,
        base=composition.base,
        members=tuple(_pin(part) for part in composition.components),
        method=_shape(wanted),
        fingerprint=fingerprint(composition, wanted),
        error=merged.error if merged else 0.0,
        retention=dict(merged.retention or {}) if merged else {},
        probes=probe.take(merged.adapter) if merged and not merged.adapter.is_dora else {},
    )
    if write_file and merged is not None:
        _refuse_merge(composition)
        files = _write(folder.weights, composition, merged, pins)
        outputs = {path.name: lock.output(path) for path in files}
        pins = pins.model_copy(update={"outputs": outputs})
        workspace.store.track(folder.weights, remote=workspace.settings.remotes.get("team"))
    recipe.save(folder.manifest, wanted)
    lock.save(folder.lock, pins)
    return pins


def fingerprint(composition: Composition, wanted: RecipeManifest) -> str:
    """Digest of everything that decides the result; a plain sum's is that of its members alone."""
    members = [_identity(_pin(part)) for part in composition.components]
    shape = _shape(wanted)
    return digest.of_json([*members, shape] if shape else members, "recipe-sha256-v1")


def changes(before: RecipeLock, composition: Composition, wanted: RecipeManifest) -> list[Change]:
    """What differs between a lock and its manifest as it resolves now."""
    now = {_name(member): member for member in map(_pin, composition.components)}
    then = {_name(member): member for member in before.members}
    found = [
        Change(name, _shown(then.get(name)), _shown(now.get(name)))
        for name in dict.fromkeys([*then, *now])
        if _identity_of(then.get(name)) != _identity_of(now.get(name))
    ]
    shape = _shape(wanted)
    for key in SHAPING:
        if shape.get(key) != before.method.get(key):
            found.append(Change(key, str(before.method.get(key, "-")), str(shape.get(key, "-"))))
    return found


def _name(member: Member) -> str:
    return member.ref.partition("@")[0]


def _identity_of(member: Member | None) -> list[object]:
    return [member.ref, *_identity(member)] if member else []


def _shown(member: Member | None) -> str:
    if member is None:
        return "-"
    return f"{member.ref}:{member.strength} {member.tensors[:26]}"


def _shape(wanted: RecipeManifest) -> dict[str, object]:
    document = wanted.model_dump(mode="json", exclude_defaults=True)
    return {key: document[key] for key in SHAPING if document.get(key)}


def _refuse_other(workspace: Workspace, wanted: RecipeManifest) -> None:
    asset = wanted.id
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
    before = recipe.load(path, asset)
    if (before.parts, _shape(before)) != (wanted.parts, _shape(wanted)):
        raise LoraregError(
            f"{asset} exists and has other parts",
            why=f"it is {before.expression}"
            + "".join(f", {key} {value}" for key, value in _shape(before).items()),
            fix="choose another name: --as NAME, or replace it: --overwrite",
        )


def _refuse_merge(composition: Composition) -> None:
    closed = [part for part in composition.components if not part.manifest.scope.merge]
    if closed:
        raise LoraregError(
            f"{closed[0].asset} may not go into merged weights",
            why="its manifest says scope.merge: false",
            fix="keep the recipe alone, which is allowed: --output recipe",
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


def _write(folder: Path, composition: Composition, merged: Merged, pins: RecipeLock) -> list[Path]:
    notes = provenance.notes(pins, composition.expression)
    if composition.task == "text-to-image":
        diffusers.write(folder / diffusers.FILE, merged.adapter, notes)
        return [folder / diffusers.FILE]
    base = public_name(composition.components[0].manifest.base)
    peft.write(folder, merged.adapter, base, notes)
    return [folder / peft.WEIGHTS, folder / peft.CONFIG]
