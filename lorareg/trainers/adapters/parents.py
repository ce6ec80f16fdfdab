"""Starting from another adapter: found and verified, then put into fresh layers of any rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lorareg.errors import LoraregError, NotFoundError, TrainingError, listed
from lorareg.registry import lineage
from lorareg.registry.bases.base import ResolvedBase, public_name, resolve
from lorareg.registry.ids import AssetId, Ref
from lorareg.registry.lineage import Ancestor
from lorareg.registry.lock import Member, ParentInput
from lorareg.registry.manifest import ImageManifest, TextManifest
from lorareg.registry.terms import is_wider
from lorareg.registry.workspace import Workspace
from lorareg.trainers.adapters import parent_files
from lorareg.weights import members, resize
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.formats import detect, diffusers, peft

if TYPE_CHECKING:
    from lorareg.trainers.adapters.inject import Adapters

EXACT = 1e-6
"""Relative error of the delta that rounding of float32 factors may make."""


@dataclass(frozen=True)
class Parent:
    """An adapter to start from.

    Attributes:
        input: how the lock names it.
        member: how the lock pins it; None for a bare file.
    """

    input: ParentInput
    adapter: LoraAdapter
    member: Member | None


def given(
    workspace: Workspace, child: ImageManifest | TextManifest, text: str | None
) -> tuple[ImageManifest | TextManifest, Parent | None]:
    """Take what ``--from`` names: an adapter goes into the manifest, a file is read.

    Returns:
        The manifest as it is then, and the parent if it is a file.

    Raises:
        LoraregError: neither an adapter nor a file, an adapter that cannot be the parent, or a file
            where the manifest names a parent; the manifest is as it was then.
    """
    if text is None:
        return child, None
    path = Path(text).expanduser()
    if not parent_files.is_weights(path):
        named = _name(workspace, text)
        if named != child.parent:
            _refuse_in_vain(workspace, child, named)
            workspace.edit_manifest(child.id, {"parent": named})
        return workspace.load_manifest(child.id), None
    if child.parent:
        raise LoraregError(
            f"{child.id} has two parents: {child.parent} and the file {path.name}",
            why="training starts from one adapter",
            fix=f"leave --from out, or remove parent from manifests/{child.id}/manifest.yaml",
        )
    adapter = detect.read(path, child.task).adapter
    _refuse_variants(child, path.name, adapter)
    found = ParentInput(ref=path.name, tensors=parent_files.identity(adapter), file=True)
    return child, Parent(found, adapter, None)


def find(
    workspace: Workspace, child: ImageManifest | TextManifest, base: ResolvedBase
) -> Parent | None:
    """Read the parent that a manifest names, verified against its lock.

    Raises:
        NotFoundError: it, or its weights, are not here.
        IntegrityError: weights that are not the lock's.
        LoraregError: another base or task, or terms that forbid it.
    """
    found = lineage.parent_of(workspace, child)
    if found is None:
        _refuse_lost_file(workspace, child)
        return None
    _refuse_misfits(found, child, base)
    with parent_files.verified(workspace, found, child) as folder:
        adapter = members.read_file(child.task, folder / found.file)
    _refuse_variants(child, str(found.ref), adapter)
    return Parent(found.input, adapter, found.pinned(workspace))


def start(adapters: Adapters, parent: Parent) -> str:
    """Put a parent's delta into freshly injected layers, and say how well it went in.

    Modules that the parent does not adapt start fresh. What grows keeps the random rows that
    ``inject`` drew, so the new ranks learn.

    Raises:
        TrainingError: modules of the parent that the child does not adapt or has in another size,
            or a delta that is not the parent's.
    """
    fresh = adapters.snapshot()
    _refuse_other_modules(parent, fresh)
    fitted, lost = resize.fit(parent.adapter, fresh)
    adapters.restore(fitted)
    error = resize.error(adapters.snapshot(), parent.adapter)
    if not error <= EXACT + np.sqrt(lost):
        raise TrainingError(
            f"the delta of {parent.input.ref} did not go into the new layers",
            why=f"its relative error is {error:.1e}, more than {EXACT:g} by rounding"
            + (f" and {np.sqrt(lost):.1e} by the lower rank" if lost else ""),
            fix="please report it, with both manifests; to go on, train without a parent",
        )
    return _sentence(parent, fresh, lost, error)


def _sentence(parent: Parent, fresh: LoraAdapter, lost: float, error: float) -> str:
    before, now = parent.adapter.rank, fresh.rank
    ranks = f"rank {now}" if before == now else f"rank {before} -> {now}"
    what = f"{100 * lost:.2g} % of the energy lost" if lost else f"delta error {error:.1e}"
    new = len(fresh.layers) - len(parent.adapter.layers)
    rest = f"; {new} modules start fresh" if new else ""
    if parent.input.file:
        rest += "; nothing says which base it was trained on: only names and shapes were compared"
    return f"started from {parent.input.ref}, {ranks}, {what}{rest}"


def _name(workspace: Workspace, text: str) -> str:
    if text.endswith(".safetensors"):
        raise NotFoundError(f"there is no file {text}", fix="correct --from")
    try:
        ref = Ref.parse(text)
    except LoraregError as error:
        raise NotFoundError(
            f"--from {text!r} names neither an adapter nor weights",
            why=f"{error.what}; and no {diffusers.FILE} or {peft.WEIGHTS} is there",
            fix="--from character/base, --from character/base@v1.0.0, or --from FILE.safetensors",
        ) from error
    if ref.channel or ref.range:
        raise LoraregError(
            f"{text}: a channel moves, so a run that starts from it could not be repeated",
            fix=f"name a version: --from {text.partition('@')[0]}@v1.0.0",
        )
    asset = AssetId(ref.kind, ref.name) if ref.kind else workspace.find_asset(ref, any_version=True)
    return f"{asset}@{ref.version}" if ref.version else str(workspace.find_asset(str(asset)))


def _refuse_in_vain(workspace: Workspace, child: ImageManifest | TextManifest, parent: str) -> None:
    """Refuse what no run could start from, before the manifest names it.

    A circle there would make every descendant's manifest a wrong one.
    """
    wanted = workspace.changed_manifest(child.id, {"parent": parent})
    if found := lineage.parent_of(workspace, wanted):
        base = resolve(wanted.base, wanted.task, workspace.root, workspace.digests)
        _refuse_misfits(found, wanted, base)


def _refuse_lost_file(workspace: Workspace, child: ImageManifest | TextManifest) -> None:
    before = lineage.parent_input(workspace, child)
    if before is not None:
        raise NotFoundError(
            f"{child.id} started from the file {before.ref}, which the registry does not hold",
            why="trained again without it, it would be another adapter",
            fix=f"lorareg train {child.id} --from {before.ref}; or, to begin without it: "
            f"rm manifests/{child.id}/lock.json",
        )


def _refuse_misfits(
    parent: Ancestor, child: ImageManifest | TextManifest, base: ResolvedBase
) -> None:
    problems: dict[str, str] = {}
    theirs = parent.lock.inputs.base
    if parent.lock.task != child.task:
        problems[f"it does {parent.lock.task}, {child.id} does {child.task}"] = (
            "name a parent of the same task"
        )
    elif theirs.digest != base.digest:
        why = (
            f"it belongs to the base {theirs.model} ({theirs.digest}), {child.id} to "
            f"{public_name(child.base)} ({base.digest}): a delta means nothing on another model"
        )
        problems[why] = "name a parent of the same base, or take its base"
    if not parent.terms.scope.derivatives and parent.asset != child.id:
        owners = ", ".join(parent.terms.owners) or "its owners"
        problems["its manifest says scope.derivatives: false"] = f"ask {owners} to allow it"
    if is_wider(child.visibility, parent.terms.visibility):
        why = f"it is {parent.terms.visibility}, and {child.id}, which would hold it, is "
        problems[why + child.visibility] = f"set visibility: {parent.terms.visibility}"
    _raise(child, str(parent.ref), problems)


def _refuse_variants(child: ImageManifest | TextManifest, name: str, adapter: LoraAdapter) -> None:
    problems: dict[str, str] = {}
    if child.lora.init == "pissa":
        problems["lora.init: pissa starts from the base's own components, not from a parent"] = (
            "set lora.init: kaiming"
        )
    if adapter.is_dora and not child.lora.use_dora:
        problems["it is a DoRA, which changes more than a plain LoRA can hold"] = (
            "set lora.use_dora: true"
        )
    if child.lora.use_dora and not adapter.is_dora:
        problems[
            "a DoRA begins at the lengths of the base's rows, and a plain parent has others"
        ] = "set lora.use_dora: false"
    _raise(child, name, problems)


def _raise(child: ImageManifest | TextManifest, name: str, problems: Mapping[str, str]) -> None:
    if problems:
        raise LoraregError(
            f"{child.id} cannot start from {name}",
            why="\n" + listed(list(problems)),
            fix="; ".join(problems.values()),
        )


def _refuse_other_modules(parent: Parent, fresh: LoraAdapter) -> None:
    lost = [name for name in parent.adapter.layers if name not in fresh.layers]
    if lost:
        encoder = all(name.startswith("text_encoder") for name in lost)
        raise TrainingError(
            f"{parent.input.ref} changes {len(lost)} modules that lora.targets leaves out",
            why="what it learned in them would be lost:\n" + listed(lost, limit=5),
            fix="set lora.text_encoder: true" if encoder else "widen lora.targets to the parent's",
        )
    for name, layer in parent.adapter.layers.items():
        target = fresh.layers[name]
        theirs, ours = ((x.up.shape[0], *x.down.shape[1:]) for x in (layer, target))
        if theirs != ours:
            raise TrainingError(
                f"{parent.input.ref} does not fit the base",
                why=f"module {name} is {ours} here, and {theirs} there",
                fix="name a parent that was trained on this base",
            )
