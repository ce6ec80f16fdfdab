"""Who may see what: which remote the bytes of an asset go to, and what may not be widened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lorareg.errors import LoraregError
from lorareg.registry import lineage
from lorareg.registry.dvc.pointer import Pointer
from lorareg.registry.ids import RECIPE, AssetId
from lorareg.registry.lock import Lock, RecipeLock
from lorareg.registry.manifest import Manifest
from lorareg.registry.recipe import RecipeManifest
from lorareg.registry.terms import is_wider
from lorareg.registry.workspace import Workspace


def weights_remote(
    workspace: Workspace, wanted: Manifest | RecipeManifest, known: Pointer | None
) -> str | None:
    """The DVC remote of an asset's weights; None is the default one.

    A remote that the pointer names beside those of ``lorareg.yaml`` was chosen by somebody.
    """
    remotes = workspace.settings.remotes
    before = known.remote if known else None
    chosen = before if before not in remotes.values() else None
    return remotes.get(wanted.visibility, chosen)


def data_remote(
    workspace: Workspace, users: Sequence[Manifest], path: Path, known: Pointer | None
) -> str | None:
    """The DVC remote of a dataset: that of the most private asset which learns from it.

    Args:
        workspace: the registry.
        users: the assets at hand that learn from it.
        path: of the data.
        known: what their pointer says; a remote that it names beside those of ``lorareg.yaml``
            was chosen by somebody, and stays.
    """
    remotes = workspace.settings.remotes
    before = known.remote if known else None
    if before is not None and before not in remotes.values():
        return before
    wanted = remotes.get(_narrowest(users))
    if before is None or before == wanted:
        return wanted
    # it would leave the remote it is on: perhaps another asset keeps it there
    everyone = [*users, *_users_of(workspace, path)]
    return remotes.get(_narrowest(everyone))


def refuse_hidden(workspace: Workspace, asset: AssetId, known: Lock | RecipeLock | None) -> None:
    """Refuse an asset that more people may see than one it descends from or is made of.

    Raises:
        LoraregError: it names them.
    """
    if isinstance(known, RecipeLock):
        hidden = lineage.hidden_members(workspace, asset, known)
        if hidden:
            raise LoraregError(
                f"the merged file of {asset} holds {', '.join(hidden)}",
                why=f"{asset} is {workspace.load_asset(asset).visibility}; nothing was pushed",
                fix=f"set a narrower visibility in manifests/{asset}/manifest.yaml",
            )
        return
    if known is None or not lineage.ancestors(workspace, known):
        return
    manifest = workspace.load_manifest(asset)
    if hidden := lineage.hidden_ancestors(workspace, manifest, known):
        raise LoraregError(
            f"{asset} is {manifest.visibility}, but it descends from {', '.join(hidden)}",
            why="its weights hold most of what its parents learned; nothing was pushed",
            fix=f"set a narrower visibility in manifests/{asset}/manifest.yaml, or train it "
            "without that parent",
        )


def _narrowest(users: Sequence[Manifest]) -> Literal["private", "team", "public"]:
    found = users[0].visibility
    for each in users:
        if is_wider(found, each.visibility):
            found = each.visibility
    return found


def _users_of(workspace: Workspace, path: Path) -> list[Manifest]:
    """Every adapter that learns from some data."""
    adapters = (asset for asset in workspace.assets() if asset.kind != RECIPE)
    manifests = (workspace.load_manifest(asset) for asset in adapters)
    return [each for each in manifests if path in workspace.data(each)]
