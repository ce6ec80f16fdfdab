"""Whether a recipe still holds, and whether a file is what the recipe comes to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lorareg.errors import LoraregError, NotFoundError
from lorareg.registry import lock, recipe, versions
from lorareg.registry.finding import Finding
from lorareg.registry.header import read_header
from lorareg.registry.ids import AssetId, Ref
from lorareg.registry.lock import Member, RecipeLock
from lorareg.registry.tensors import tensor_digest
from lorareg.registry.workspace import Workspace
from lorareg.weights import members, probe, recipes
from lorareg.weights.adapter import LoraAdapter

TOLERANCE = {"F32": 1e-5, "F64": 1e-5, "F16": 2e-3, "BF16": 1.6e-2}
"""Relative difference that rounding both factors to a type may make."""


def verify(workspace: Workspace, asset: AssetId) -> list[Finding]:
    """Check a recipe: manifest against lock, every pin, and the merged file if there is one.

    Raises:
        NotFoundError: it was never composed.
    """
    known = locked(workspace, asset)
    wanted = recipe.load(workspace.folder(asset).manifest, asset)
    return [
        *_pins(workspace, known),
        _agreement(workspace, asset, known, wanted),
        *_outputs(workspace, asset, known),
    ]


def verify_file(workspace: Workspace, asset: AssetId, file: Path, found: LoraAdapter) -> Finding:
    """Whether a file, by any tool, is the merge that a recipe describes.

    Args:
        workspace: the registry.
        asset: the recipe.
        file: for its number type and its name.
        found: what it holds.

    Raises:
        LoraregError: the recipe has no one delta, or one that cannot be compared.
    """
    known = locked(workspace, asset)
    if not known.probes:
        raise LoraregError(
            f"{asset} cannot be compared with a file",
            why="it changes from step to step, is a DoRA, or comes to nothing: it has no delta of "
            "its own",
            fix=f"compose it as a plain sum: lorareg compose EXPR --as {asset.name}-sum",
        )
    match = probe.compare(probe.take(found), known.probes)
    allowed = tolerance(file)
    says = f"differs from {asset} by {match.difference:.1e} of its norm"
    if match.difference <= allowed:
        return Finding(True, file.name, f"{says}, within rounding ({allowed:g})")
    parts = [f"module {match.worst} differs most"] if match.worst else []
    parts += [f"{len(match.missing)} modules are missing"] if match.missing else []
    parts += [f"{len(match.extra)} modules are not of the recipe"] if match.extra else []
    return Finding(False, file.name, f"{says}, and rounding allows {allowed:g}: {'; '.join(parts)}")


def tolerance(file: Path) -> float:
    """How far a file of this number type may be from the true delta."""
    kinds = {entry.dtype for entry in read_header(file).tensors}
    return max((TOLERANCE[kind] for kind in kinds if kind in TOLERANCE), default=TOLERANCE["F32"])


def locked(workspace: Workspace, asset: AssetId) -> RecipeLock:
    """The lock of a recipe.

    Raises:
        NotFoundError: there is none.
    """
    path = workspace.folder(asset).lock
    found = lock.load(path) if path.is_file() else None
    if isinstance(found, RecipeLock):
        return found
    raise NotFoundError(
        f"{asset} has no lock of a recipe", fix="lorareg compose EXPR --as " + asset.name
    )


def _pins(workspace: Workspace, known: RecipeLock) -> Iterator[Finding]:
    for member in known.members:
        yield pin(workspace, member)


def pin(workspace: Workspace, member: Member) -> Finding:
    """Whether a member is still the one that was pinned."""
    try:
        state = versions.find(workspace, versions.fixed(Ref.parse(member.ref)))
        file = versions.weights(workspace, state) / member.file
    except LoraregError as error:
        return Finding(False, member.ref, error.sentence)
    if file.is_file() and tensor_digest(file) == member.tensors:
        return Finding(True, member.ref, member.tensors)
    return Finding(False, member.ref, f"is no longer {member.tensors}")


def _agreement(
    workspace: Workspace, asset: AssetId, known: RecipeLock, wanted: recipe.RecipeManifest
) -> Finding:
    what = "manifest.yaml"
    try:
        now = recipes.fingerprint(members.of_recipe(workspace, wanted), wanted)
    except LoraregError as error:
        return Finding(False, what, error.sentence)
    if recipes.fingerprint_of(known.members, known.method) != known.fingerprint:
        return Finding(False, "lock.json", "its fingerprint does not follow from its members")
    if now == known.fingerprint:
        return Finding(True, what, "the lock is that of its parts and method")
    return Finding(
        False,
        what,
        f"says another composition than lock.json: see it with lorareg compose upgrade {asset}",
    )


def _outputs(workspace: Workspace, asset: AssetId, known: RecipeLock) -> Iterator[Finding]:
    folder = workspace.folder(asset)
    for name, output in known.outputs.items():
        path = folder.weights / name
        if not path.is_file():
            yield Finding(False, f"weights/{name}", f"is not here: lorareg pull {asset} fetches it")
        elif workspace.digests.digests({name: path})[name] != output.sha256:
            yield Finding(False, f"weights/{name}", f"is no longer {output.sha256}")
        else:
            yield Finding(True, f"weights/{name}", output.sha256)
    if known.outputs and known.probes and workspace.weights_match(folder, known):
        file = folder.weights / next(n for n, o in known.outputs.items() if o.tensors)
        yield verify_file(workspace, asset, file, members.read_file(known.task, file))
