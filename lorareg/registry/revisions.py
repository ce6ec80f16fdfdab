"""Manifest and lock of an asset as git has them; nobody's weights are looked at.

Of a release they are asked for by its number, never by the name of its tag, which may be moved.
"""

from __future__ import annotations

from pathlib import Path

from lorareg.registry import lock, manifest, yamlfile
from lorareg.registry.ids import AssetId
from lorareg.registry.lock import Lock, RecipeLock
from lorareg.registry.manifest import ImageManifest, TextManifest
from lorareg.registry.releases import ledger
from lorareg.registry.workspace import Workspace


def released_manifest(
    workspace: Workspace, asset: AssetId, version: str
) -> ImageManifest | TextManifest:
    """The checked manifest of an adapter as it was released.

    Raises:
        NotFoundError: there is no such release.
        IntegrityError: its tag was moved.
    """
    return manifest_at(workspace, asset, ledger.commit_of(workspace, asset, version))


def released_lock(workspace: Workspace, asset: AssetId, version: str) -> Lock | RecipeLock:
    """The lock of an asset as it was released; raises as ``released_manifest``."""
    return lock_at(workspace, asset, ledger.commit_of(workspace, asset, version))


def manifest_at(
    workspace: Workspace, asset: AssetId, revision: str
) -> ImageManifest | TextManifest:
    """The checked manifest of an adapter at a commit.

    Raises:
        NotFoundError: no such revision, or no such file in it.
    """
    file = workspace.folder(asset).manifest
    text = text_at(workspace, file, revision)
    return manifest.check_document(yamlfile.parse(text, file), asset)


def lock_at(workspace: Workspace, asset: AssetId, revision: str) -> Lock | RecipeLock:
    """The lock of an asset at a revision; raises as ``manifest_at``."""
    file = workspace.folder(asset).lock
    return lock.parse(text_at(workspace, file, revision), file)


def text_at(workspace: Workspace, file: Path, revision: str) -> str:
    """A file's text at a revision; raises as ``manifest_at``."""
    return workspace.history.read(file, revision).decode("utf-8", "replace")
