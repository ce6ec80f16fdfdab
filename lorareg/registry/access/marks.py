"""Which assets have a tombstone: a stat each and nothing imported, so that every use can ask."""

from __future__ import annotations

import os

from lorareg.registry.ids import SLUG, AssetId
from lorareg.registry.workspace import Workspace

FILE = "revoked.json"


def marked(workspace: Workspace) -> list[AssetId]:
    """Assets with a tombstone, sorted, whether or not they still have a manifest."""
    top = str(workspace.manifests)
    found = [
        (kind, name)
        for kind in _folders(top)
        for name in _folders(f"{top}/{kind}")
        if os.path.lexists(f"{top}/{kind}/{name}/{FILE}")
    ]
    named = (pair for pair in found if all(map(SLUG.fullmatch, pair)))
    return sorted(AssetId(*pair) for pair in named)


def _folders(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [each.name for each in entries if each.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
