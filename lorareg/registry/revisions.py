"""Manifest and lock of an asset as git has them at a revision; nobody's weights are looked at."""

from __future__ import annotations

from pathlib import Path

from lorareg.registry import lock, manifest, yamlfile
from lorareg.registry.ids import AssetId
from lorareg.registry.lock import Lock, RecipeLock
from lorareg.registry.manifest import ImageManifest, TextManifest
from lorareg.registry.workspace import Workspace


def manifest_at(
    workspace: Workspace, asset: AssetId, revision: str
) -> ImageManifest | TextManifest:
    """The checked manifest of an adapter at a tag, branch or commit.

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
