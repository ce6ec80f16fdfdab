"""Two states of assets that are to be compared: which are meant, and what git knows of each."""

from __future__ import annotations

from dataclasses import dataclass

from lorareg.errors import LoraregError, NotFoundError
from lorareg.registry import lock, revisions, versions
from lorareg.registry.ids import RECIPE, AssetId, Ref
from lorareg.registry.lock import DatasetIndex, Lock, RecipeLock, TrainedLock
from lorareg.registry.manifest import ImageManifest, TextManifest
from lorareg.registry.recipe import RecipeManifest
from lorareg.registry.releases import ledger
from lorareg.registry.workspace import Workspace


@dataclass(frozen=True)
class State:
    """An adapter or a recipe, checked out or released.

    Attributes:
        version: ``v1.2.0`` of a release; None is what is checked out.
        commit: where it is, 40 hex digits; None before the first commit.
        index: what it was trained on, by name; None where that is not known.
    """

    asset: AssetId
    version: str | None
    commit: str | None
    manifest: ImageManifest | TextManifest | RecipeManifest
    lock: Lock | RecipeLock
    index: DatasetIndex | None

    @property
    def ref(self) -> str:
        """``kind/name`` or ``kind/name@v1.2.0``."""
        return f"{self.asset}@{self.version}" if self.version else str(self.asset)

    @property
    def task(self) -> str:
        """What it makes: pictures or text."""
        return self.lock.task


def pair(workspace: Workspace, before: str, after: str | None) -> tuple[State, State]:
    """The two states that were typed.

    Args:
        workspace: the registry.
        before: a REF.
        after: a REF; None is what is checked out, and then a bare ``before`` is its newest release.

    Raises:
        NotFoundError: no such state, or no release to compare with.
        LoraregError: an adapter and a recipe.
    """
    first = Ref.parse(before)
    asset = workspace.find_asset(first, any_version=True)
    if after is None and first.at is None:
        known = versions.releases(workspace, asset)
        if not known:
            raise NotFoundError(
                f"{asset} has no release to compare with what is checked out",
                fix=f"name two states: lorareg diff {asset} OTHER; or lorareg release {asset}",
            )
        first = Ref(asset.kind, asset.name, known[-1])
    found = state(workspace, first), state(workspace, Ref.parse(after or str(asset)))
    if len({each.asset.kind == RECIPE for each in found}) > 1:
        raise LoraregError(
            f"{found[0].asset} and {found[1].asset} are an adapter and a recipe",
            why="they have nothing in common that could differ",
            fix="name two adapters or two recipes: lorareg list shows them",
        )
    return found


def state(workspace: Workspace, ref: Ref) -> State:
    """The state that a reference means; raises as ``versions.find``."""
    asset = workspace.find_asset(ref, any_version=True)
    if asset.kind == RECIPE:
        return _recipe(workspace, asset, ref)
    found = versions.find(workspace, ref)
    index = _index(workspace, asset, found.lock, found.commit if found.version else None)
    return State(asset, found.version, found.commit, found.manifest, found.lock, index)


def _recipe(workspace: Workspace, asset: AssetId, ref: Ref) -> State:
    manifest = versions.recipe_of(workspace, asset, ref)
    version = versions.version_of(workspace, asset, ref)
    if version is None:
        commit = workspace.history.head()
        return State(asset, None, commit, manifest, _locked(workspace, asset), None)
    commit = ledger.commit_of(workspace, asset, version)
    known = revisions.lock_at(workspace, asset, commit)
    return State(asset, version, commit, manifest, known, None)


def _locked(workspace: Workspace, asset: AssetId) -> Lock | RecipeLock:
    try:
        return lock.load(workspace.folder(asset).lock)
    except NotFoundError as error:
        raise NotFoundError(
            f"{asset} is not locked yet", fix=f"lorareg compose {asset} --as {asset.name}"
        ) from error


def _index(
    workspace: Workspace, asset: AssetId, known: Lock, commit: str | None
) -> DatasetIndex | None:
    """What a lock was made from; ``commit`` is None of what is checked out."""
    file = workspace.folder(asset).dataset
    if not isinstance(known, TrainedLock):
        return None
    try:
        if commit is None:
            return lock.load_index(file, known.inputs)
        text = revisions.text_at(workspace, file, commit)
    except NotFoundError:
        return None
    return lock.parse_index(text, file, known.inputs)
