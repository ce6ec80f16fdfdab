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
from lorareg.registry import yamlfile
from lorareg.registry.digest import RACY_SECONDS
from lorareg.registry.files import write_atomically
from lorareg.registry.ids import RECIPE, AssetId
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
    imported: bool = False

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
            "imported" if self.imported else "yes" if self.trained else "no",
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
    """What the manifest says, read but not judged: ``lorareg status`` checks it."""
    try:
        document = yamlfile.load(workspace.manifests / str(asset) / "manifest.yaml")
    except LoraregError as error:
        return Row(str(asset), {}, "", "", None, None, None, "", trained, error.what)
    lora = _block(document, "lora")
    rank, alpha = lora.get("rank", 16), lora.get("alpha", 16)
    numbers = isinstance(rank, int) and rank > 0 and isinstance(alpha, int | float)
    trigger = document.get("trigger")
    common: dict[str, Any] = {
        "asset": str(asset),
        "title": {key: str(text) for key, text in _block(document, "title").items()},
        "trigger": str(trigger) if trigger else None,
        "visibility": str(document.get("visibility", "team")),
        "trained": trained,
    }
    if asset.kind == RECIPE:
        parts = document.get("parts")
        written = "+".join(map(_part, parts)) if isinstance(parts, list) else ""
        return Row(task="recipe", base=written, rank=None, scale=None, **common)
    return Row(
        task=str(document.get("task", "")),
        base=str(_block(document, "base").get("model", "")),
        rank=rank if numbers else None,
        scale=alpha / rank if numbers else None,
        imported="origin" in document,
        **common,
    )


def _block(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = document.get(key)
    return found if isinstance(found, Mapping) else {}


def _part(part: Any) -> str:
    return f"{part.get('ref')}:{part.get('weight')}" if isinstance(part, Mapping) else str(part)
