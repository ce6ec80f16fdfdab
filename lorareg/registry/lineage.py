"""Where an adapter comes from: the parent that its manifest names, and the parents before it.

Only manifests and locks are read, here or at a tag; nobody's weights have to be on this disk.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from lorareg.errors import IntegrityError, LoraregError, NotFoundError
from lorareg.registry.ids import RECIPE, AssetId, Ref
from lorareg.registry.lock import Lock, Member, ParentInput, RecipeLock, TrainedLock
from lorareg.registry.manifest import Manifest
from lorareg.registry.releases import ledger
from lorareg.registry.revisions import lock_at, manifest_at
from lorareg.registry.terms import is_wider
from lorareg.registry.workspace import Workspace


@dataclass(frozen=True)
class Ancestor:
    """An adapter that another one starts from, in the state that is meant.

    Attributes:
        ref: kind/name, or kind/name@version.
        terms: its manifest in that state.
        lock: what was trained then.
    """

    ref: Ref
    terms: Manifest
    lock: Lock

    @property
    def asset(self) -> AssetId:
        """The adapter, in whatever state."""
        return _asset(self.ref)

    @property
    def tag(self) -> str | None:
        """The release that is meant; None is what is checked out."""
        return str(self.ref) if self.ref.version else None

    @property
    def file(self) -> str:
        """Name of its weights file."""
        return _weights(self.lock)[0]

    @property
    def input(self) -> ParentInput:
        """How the lock of a child names it."""
        return ParentInput(ref=str(self.ref), tensors=_weights(self.lock)[1])

    def pinned(self, workspace: Workspace) -> Member:
        """How the lock of a child keeps it, with the commit where its own lock is."""
        history = workspace.history
        file, tensors = _weights(self.lock)
        return Member(
            ref=str(self.ref),
            weight=1.0,
            commit=history.resolve(self.tag) if self.tag else history.head(),
            file=file,
            sha256=self.lock.outputs[file].sha256,
            tensors=tensors,
        )


def parent_of(workspace: Workspace, child: Manifest) -> Ancestor | None:
    """The adapter that a manifest names as its parent.

    Raises:
        NotFoundError: there is no such adapter or release, or it is not trained.
        LoraregError: it is a recipe, or the child descends from itself.
    """
    if child.parent is None:
        return None
    ref = Ref.parse(child.parent)
    asset = _asset(ref)
    if asset.kind == RECIPE:
        raise LoraregError(
            f"the parent of {child.id} is a recipe",
            why="training starts from one adapter",
            fix=f"name one of its parts: lorareg show {asset}",
        )
    if not ref.version:
        _refuse_circle(workspace, child)
    terms, found = _state(workspace, child, ref, asset)
    if found is None:
        raise NotFoundError(
            f"{ref}, the parent of {child.id}, is not trained yet", fix=f"lorareg train {asset}"
        )
    return Ancestor(ref, terms, found)


def parent_input(workspace: Workspace, child: Manifest) -> ParentInput | None:
    """What a run of the child would start from now: the part of a parent that shapes its weights.

    A file that was named on the command line stays the parent until the manifest names another
    one: else the next ``train --all`` would train the adapter anew without it.
    """
    named = parent_of(workspace, child)
    if named:
        return named.input
    known = workspace.load_lock(child.id)
    before = known.inputs.parent if isinstance(known, TrainedLock) else None
    return before if before and before.file else None


def ancestors(workspace: Workspace, known: Lock | RecipeLock) -> list[ParentInput]:
    """Parent, its parent, and so on, as far as the locks of this registry tell."""
    found: list[ParentInput] = []
    here = known if isinstance(known, Lock) else None
    while isinstance(here, TrainedLock) and here.inputs.parent and here.inputs.parent not in found:
        found.append(here.inputs.parent)
        here = _lock_behind(workspace, here)
    return found


def hidden_members(workspace: Workspace, asset: AssetId, known: RecipeLock) -> list[str]:
    """Members of a recipe's merged file that fewer people may see than the file, with who may."""
    own = workspace.load_asset(asset).visibility
    found = []
    for member in known.members if known.outputs else ():
        each = _asset(Ref.parse(member.ref))
        if workspace.folder(each).manifest.is_file():
            theirs = workspace.load_manifest(each).visibility
            if is_wider(own, theirs):
                found.append(f"{each} ({theirs})")
    return found


def hidden_ancestors(workspace: Workspace, child: Manifest, known: Lock) -> list[str]:
    """Adapters it descends from that fewer people may see, with who may, as manifests say now.

    Whoever has a child's weights has most of what its parents learned.
    """
    found = []
    for parent in ancestors(workspace, known):
        if parent.file:
            continue
        asset = _asset(Ref.parse(parent.ref))
        if workspace.folder(asset).manifest.is_file():
            theirs = workspace.load_manifest(asset).visibility
            if is_wider(child.visibility, theirs):
                found.append(f"{asset} ({theirs})")
    return found


def _asset(ref: Ref) -> AssetId:
    """The adapter, without the version; here a reference always has its kind."""
    return AssetId.parse(str(ref).partition("@")[0])


def _line(workspace: Workspace, child: Manifest) -> list[AssetId]:
    """The adapter, its parent and so on, as they are checked out; a circle ends where it closes."""
    line, here = [child.id], child
    while here.parent and "@" not in here.parent:
        asset = AssetId.parse(here.parent)
        closed = asset in line
        line.append(asset)
        if closed or asset.kind == RECIPE or not workspace.folder(asset).manifest.is_file():
            break
        here = workspace.load_manifest(asset)
    return line


def _refuse_circle(workspace: Workspace, child: Manifest) -> None:
    line = _line(workspace, child)
    if len(set(line)) < len(line):
        raise LoraregError(
            f"{child.id} descends from itself",
            why=" > ".join(str(asset) for asset in line),
            fix=f"name a release, which stays what it was: parent: {line[1]}@v1.0.0",
        )


def _state(
    workspace: Workspace, child: Manifest, ref: Ref, asset: AssetId
) -> tuple[Manifest, Lock | None]:
    """Manifest and lock of a parent, checked out or at its tag."""
    try:
        if not ref.version:
            workspace.find_asset(ref)
            return workspace.load_manifest(asset), workspace.load_lock(asset)
        commit = ledger.commit_of(workspace, asset, ref.version)
        return manifest_at(workspace, asset, commit), _lock_at(workspace, asset, commit)
    except NotFoundError as error:
        raise NotFoundError(
            f"the parent of {child.id} is not here: {error.what}", why=error.why, fix=error.fix
        ) from error


def _lock_behind(workspace: Workspace, known: Lock) -> Lock | None:
    """The lock of the parent that an adapter was trained from, if it is here or in the history."""
    for member in known.parents:
        asset = _asset(Ref.parse(member.ref))
        for commit in (None, member.commit):
            with suppress(LoraregError):
                found = _lock_at(workspace, asset, commit)
                if found and _weights(found)[1] == member.tensors:
                    return found
    return None


def _lock_at(workspace: Workspace, asset: AssetId, revision: str | None) -> Lock | None:
    if revision is None:
        return workspace.load_lock(asset)
    found = lock_at(workspace, asset, revision)
    return found if isinstance(found, Lock) else None


def _weights(known: Lock) -> tuple[str, str]:
    """The one weights file of a trained adapter, and the tensor digest that is its identity."""
    for name, output in known.outputs.items():
        if output.tensors:
            return name, output.tensors
    raise IntegrityError(
        f"the lock of {known.asset} promises no weights",
        why="none of its outputs has a tensor digest",
        fix=f"restore manifests/{known.asset}/lock.json: git checkout, or lorareg pull",
    )
