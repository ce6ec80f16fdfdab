"""A composition kept as a recipe: its members pinned, its merged file written and recognisable."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import IntegrityError, LoraregError
from lorareg.registry import digest, lock, recipe
from lorareg.registry.assetfolder import AssetFolder
from lorareg.registry.bases.base import public_name
from lorareg.registry.expression import Part
from lorareg.registry.ids import Ref
from lorareg.registry.lock import Member, Output, RecipeLock
from lorareg.registry.recipe import RecipeManifest
from lorareg.registry.workspace import Workspace
from lorareg.weights import probe, provenance
from lorareg.weights.compose import Merged
from lorareg.weights.formats import diffusers, peft
from lorareg.weights.members import Component, Composition

SHAPING = ("method", "compression", "schedule")
"""Keys of a manifest that decide, beside the parts, what comes out."""

VISIBILITIES = ("private", "team", "public")
"""From the narrowest to the widest."""


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
        write_file: whether the weights are written too; if not, those of the same composition stay
            and those of another are removed.
        overwrite: whether a recipe of that name with other parts may be replaced.

    Raises:
        LoraregError: there is a recipe of that name with other parts, or an adapter.
    """
    asset, folder = wanted.id, workspace.folder(wanted.id)
    refuse_other(workspace, wanted, overwrite=overwrite)
    has_file = write_file and merged is not None
    wanted = _as_visible(workspace, composition, wanted, has_file=has_file)
    pins = RecipeLock(
        asset=str(asset),
        task=composition.task,
        base=composition.base,
        members=tuple(pin(part) for part in composition.components),
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
        remote = workspace.settings.remotes.get(wanted.visibility)
        workspace.store.track(folder.weights, remote=remote)
    else:
        outputs = _outputs_of(folder, pins.fingerprint)
    pins = pins.model_copy(update={"outputs": outputs})
    recipe.save(folder.manifest, wanted)
    lock.save(folder.lock, pins)
    if not outputs:
        _remove_weights(folder)
    return pins


def _outputs_of(folder: AssetFolder, wanted: str) -> dict[str, Output]:
    """The file that an earlier lock of the same composition has."""
    before = lock.load(folder.lock) if folder.lock.is_file() else None
    is_same = isinstance(before, RecipeLock) and before.fingerprint == wanted
    return dict(before.outputs) if before and is_same else {}


def _remove_weights(folder: AssetFolder) -> None:
    """A merged file of other parts would be taken for this recipe's."""
    folder.pointer.unlink(missing_ok=True)
    if folder.weights.is_dir():
        shutil.rmtree(folder.weights)


def fingerprint(composition: Composition, wanted: RecipeManifest) -> str:
    """Digest of everything that decides the result; a plain sum's is that of its members alone."""
    return fingerprint_of(tuple(pin(part) for part in composition.components), _shape(wanted))


def fingerprint_of(pinned: Sequence[Member], shape: Mapping[str, object]) -> str:
    """The same from what a lock has."""
    members = [_identity(member) for member in pinned]
    return digest.of_json([*members, shape] if shape else members, "recipe-sha256-v1")


def changes(before: RecipeLock, composition: Composition, wanted: RecipeManifest) -> list[Change]:
    """What differs between a lock and its manifest as it resolves now."""
    now = {_name(member): member for member in map(pin, composition.components)}
    then = {_name(member): member for member in before.members}
    found = [
        Change(name, _shown(then.get(name)), _shown(now.get(name)))
        for name in dict.fromkeys([*then, *now])
        if _identity_of(then.get(name)) != _identity_of(now.get(name))
    ]
    shape = _shape(wanted)
    for key in SHAPING:
        if shape.get(key) != before.method.get(key):
            found.append(Change(key, _said(before.method.get(key)), _said(shape.get(key))))
    return found


def _name(member: Member) -> str:
    return member.ref.partition("@")[0]


def _identity_of(member: Member | None) -> list[object]:
    return [member.ref, *_identity(member)] if member else []


def _shown(member: Member | None) -> str:
    if member is None:
        return "-"
    shown = Part(Ref.parse(member.ref), member.weight, member.strength.ordered, member.windows)
    return f"{shown} {member.tensors[:26]}"


def _said(block: object) -> str:
    if not isinstance(block, dict):
        return "-"
    return ", ".join(f"{key} {value}" for key, value in block.items())


def _shape(wanted: RecipeManifest) -> dict[str, object]:
    document = wanted.model_dump(mode="json", exclude_defaults=True)
    return {key: document[key] for key in SHAPING if document.get(key)}


def refuse_other(workspace: Workspace, wanted: RecipeManifest, *, overwrite: bool) -> None:
    """Refuse a name that is taken: by an adapter, or by a recipe that may not be replaced.

    Raises:
        LoraregError: it is.
    """
    asset = wanted.id
    twins = [found for found in workspace.assets() if found.name == asset.name and found != asset]
    if twins:
        raise LoraregError(
            f"{asset.name!r} is the name of {twins[0]}",
            why="a second asset of that name would make the bare name ambiguous everywhere",
            fix=f"choose another: --as {asset.name}-mix",
        )
    path = workspace.folder(asset).manifest
    if overwrite or not path.is_file():
        return
    before = recipe.load(path, asset)
    if (before.parts, _shape(before)) != (wanted.parts, _shape(wanted)):
        raise LoraregError(
            f"{asset} exists and has other parts",
            why=f"it is {before.expression}"
            + "".join(f", {key}: {_said(block)}" for key, block in _shape(before).items()),
            fix="choose another name: --as NAME, or replace it: --overwrite",
        )


def _as_visible(
    workspace: Workspace, composition: Composition, wanted: RecipeManifest, *, has_file: bool
) -> RecipeManifest:
    """The recipe with the visibility that its manifest has, or as a new one gets.

    Raises:
        LoraregError: more people would see a merge than may see one of the members.
    """
    path = workspace.folder(wanted.id).manifest
    narrowest = min(
        (part.manifest for part in composition.components),
        key=lambda manifest: VISIBILITIES.index(manifest.visibility),
    )
    both = (wanted.visibility, narrowest.visibility)
    if not path.is_file():
        return wanted.model_copy(update={"visibility": min(both, key=VISIBILITIES.index)})
    own = recipe.load(path, wanted.id).visibility
    if has_file and VISIBILITIES.index(own) > VISIBILITIES.index(narrowest.visibility):
        raise LoraregError(
            f"{wanted.id} is {own}, and would hold the weights of {narrowest.id}",
            why=f"which is {narrowest.visibility}",
            fix=f"set visibility: {narrowest.visibility} in manifests/{wanted.id}/manifest.yaml",
        )
    return wanted.model_copy(update={"visibility": own})


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


def pin(part: Component) -> Member:
    """A member as a lock holds it.

    Raises:
        IntegrityError: its own lock does not say what its tensors are.
    """
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
