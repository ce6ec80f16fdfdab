"""What is published: one release of an adapter or a recipe, and the place it goes to."""

from __future__ import annotations

from dataclasses import dataclass

from lorareg.errors import LoraregError, NotFoundError
from lorareg.registry import digest, lock, versions
from lorareg.registry.ids import RECIPE, AssetId, Ref
from lorareg.registry.lock import Lock, RecipeLock
from lorareg.registry.manifest import ImageManifest, Manifest, TextManifest
from lorareg.registry.publication import Gate
from lorareg.registry.recipe import RecipeManifest
from lorareg.registry.releases import ledger
from lorareg.registry.revisions import manifest_at
from lorareg.registry.workspace import Workspace

AnyManifest = ImageManifest | TextManifest | RecipeManifest


@dataclass(frozen=True)
class Subject:
    """One release.

    Attributes:
        version: ``v1.2.0``.
        manifest: as it was released; today: as it is checked out now. Both must allow it.
        lock: as it was released; lock_digest: sha256 of its bytes.
        commit: that the release's tag points to, 40 hex digits.
        repo: on the Hub.
        gated: who gets behind its gate.
    """

    asset: AssetId
    version: str
    manifest: AnyManifest
    today: Manifest | RecipeManifest
    lock: Lock | RecipeLock
    lock_digest: str
    commit: str
    repo: str
    gated: Gate

    @property
    def ref(self) -> str:
        """``kind/name@v1.2.0``."""
        return f"{self.asset}@{self.version}"

    @property
    def is_public(self) -> bool:
        """Whether everybody may know of it."""
        return self.today.visibility == "public"


def find(workspace: Workspace, ref: Ref) -> Subject:
    """The release that a reference means; without a version the newest one.

    Raises:
        NotFoundError: no such asset or release.
        LoraregError: it was never released, a channel is named, or it has no place on the Hub.
    """
    asset = workspace.find_asset(ref, any_version=True)
    if ref.channel:
        raise LoraregError(
            f"{ref}: a channel moves, a release on the Hub does not",
            fix=f"name a release: lorareg publish {asset}@v1.0.0",
        )
    known = versions.releases(workspace, asset)
    wanted = [v for v in known if not ref.range or versions.within(v, ref.range)]
    if not known or not wanted:
        raise LoraregError(
            f"{asset} has no release" + (f" in {ref.range}" if known else ""),
            why="only what was released is published: it cannot change any more",
            fix=f"lorareg release {asset}",
        )
    if ref.version and ref.version not in known:
        raise NotFoundError(
            f"there is no release {ref.version} of {asset}",
            why="there are " + ", ".join(known),
            fix="git fetch --tags",
        )
    return of(workspace, asset, ref.version or wanted[-1])


def of(workspace: Workspace, asset: AssetId, version: str) -> Subject:
    """A release; raises as ``find``.

    Raises:
        IntegrityError: its tag was moved.
    """
    commit, folder = ledger.commit_of(workspace, asset, version), workspace.folder(asset)
    today = workspace.load_asset(asset)
    repo, gated = place(workspace, asset)
    text = workspace.history.read(folder.lock, commit)
    found = lock.parse(text.decode("utf-8", "replace"), folder.lock)
    return Subject(
        asset=asset,
        version=version,
        manifest=_released(workspace, asset, version, commit),
        today=today,
        lock=found,
        lock_digest=digest.of_bytes(text),
        commit=commit,
        repo=repo,
        gated=gated,
    )


def place(workspace: Workspace, asset: AssetId) -> tuple[str, Gate]:
    """Repository and gate that an asset's manifest says now.

    Raises:
        LoraregError: the manifest or ``lorareg.yaml`` says no place.
    """
    wanted = workspace.load_asset(asset).publish
    if wanted is None:
        raise LoraregError(
            f"{asset} is not for the Hub",
            why=f"manifests/{asset}/manifest.yaml has no publish block",
            fix="write into it: publish: {hub: NAMESPACE/" + asset.name + ", gated: manual}",
        )
    settings = workspace.settings.hub
    if wanted.hub is None and settings is None:
        raise LoraregError(
            f"{asset} has no place on the Hub",
            why="neither its publish block names a repository, nor lorareg.yaml a namespace",
            fix="write into lorareg.yaml: hub: {namespace: YOUR-NAME-ON-THE-HUB}",
        )
    namespace = settings.namespace if settings else ""
    return wanted.hub or f"{namespace}/{asset.name}", wanted.gated


def _released(workspace: Workspace, asset: AssetId, version: str, commit: str) -> AnyManifest:
    if asset.kind == RECIPE:
        return versions.recipe_of(workspace, asset, Ref(asset.kind, asset.name, version))
    return manifest_at(workspace, asset, commit)
