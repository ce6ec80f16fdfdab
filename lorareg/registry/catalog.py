"""What there is in a registry, a row an asset; fast, and without torch."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lorareg import __version__
from lorareg.errors import LoraregError
from lorareg.registry.digest import RACY_SECONDS
from lorareg.registry.files import write_atomically
from lorareg.registry.ids import AssetId
from lorareg.registry.recipe import RecipeManifest
from lorareg.registry.workspace import Workspace


@dataclass(frozen=True)
class Row:
    """An asset as ``lorareg list`` shows it; ``problem`` is set if its manifest is wrong."""

    asset: str
    title: dict[str, str]
    task: str
    base: str
    trigger: str | None
    rank: int | None
    scale: float | None
    visibility: str
    trained: bool
    problem: str | None = None

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def cells(self) -> tuple[str, ...]:
        """For a table."""
        return (
            self.asset,
            self.problem or " · ".join(self.title.values()),
            self.task,
            self.base,
            self.trigger or "",
            f"{self.scale:g}" if self.scale is not None else "",
            "yes" if self.trained else "no",
        )


def rows(workspace: Workspace, kind: str | None = None) -> list[Row]:
    """Every asset, sorted; a broken manifest is a row with its problem, not an end.

    Rows are remembered by the manifests' (inode, size, mtime), so that a second look reads none.
    """
    index = _Index(workspace.cache / "catalog.json")
    found = [
        index.row(workspace, asset)
        for asset in workspace.assets()
        if kind is None or asset.kind == kind
    ]
    index.save()
    return found


class _Index:
    """What the manifests said when they were last read; may be deleted at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = _read(path)
        self._changed = False

    def row(self, workspace: Workspace, asset: AssetId) -> Row:
        folder = f"{workspace.manifests}/{asset}"
        trained = os.path.exists(f"{folder}/lock.json")
        stat = os.stat(f"{folder}/manifest.yaml")
        stamp = [stat.st_ino, stat.st_size, stat.st_mtime_ns]
        entry = self._known.get(str(asset))
        if entry and entry["stamp"] == stamp:
            return Row(**entry["row"] | {"trained": trained})
        row = _row(workspace, asset, trained)
        if time.time() - stat.st_mtime > RACY_SECONDS:
            self._known[str(asset)] = {"stamp": stamp, "row": row.document()}
            self._changed = True
        return row

    def save(self) -> None:
        if self._changed:
            document = {"lorareg": __version__, "rows": self._known}
            write_atomically(self._path, json.dumps(document, ensure_ascii=False))


def _read(path: Path) -> dict[str, Any]:
    """The index of an earlier call of this version, or an empty one."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(document, Mapping) or document.get("lorareg") != __version__:
        return {}
    return dict(document["rows"])


def _row(workspace: Workspace, asset: AssetId, trained: bool) -> Row:
    try:
        manifest = workspace.load_asset(asset)
    except LoraregError as error:
        return Row(str(asset), {}, "", "", None, None, None, "", trained, error.what)
    if isinstance(manifest, RecipeManifest):
        parts = "+".join(f"{part.ref}:{part.weight:g}" for part in manifest.parts)
        return Row(
            str(asset), manifest.title, "recipe", parts, None, None, None, manifest.visibility,
            trained,
        )  # fmt: skip
    return Row(
        asset=str(asset),
        title=manifest.title,
        task=manifest.task,
        base=manifest.base.model,
        trigger=manifest.trigger,
        rank=manifest.lora.rank,
        scale=manifest.lora.scale,
        visibility=manifest.visibility,
        trained=trained,
    )
