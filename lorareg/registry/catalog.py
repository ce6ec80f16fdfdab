"""What there is in a registry, a row an asset; fast, and without torch."""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lorareg import __version__
from lorareg.errors import LoraregError
from lorareg.registry import digest, newest
from lorareg.registry.digest import RACY_SECONDS
from lorareg.registry.files import write_atomically
from lorareg.registry.ids import RECIPE, AssetId
from lorareg.registry.workspace import Workspace


@dataclass(frozen=True)
class Row:
    """An asset as ``lorareg list`` shows it.

    ``version`` is its newest release; ``problem`` is set if its manifest is wrong.
    """

    asset: str
    trained: bool
    version: str | None
    title: dict[str, str]
    task: str
    base: str
    trigger: str | None
    rank: int | None
    scale: float | None
    visibility: str
    problem: str | None = None
    imported: bool = False
    description: str = ""
    owners: list[str] = field(default_factory=list)
    license: str = ""

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))

    def cells(self) -> tuple[str, ...]:
        """For a table."""
        return (
            self.asset,
            self.problem or " · ".join(self.title.values()),
            self.task,
            self.base,
            self.trigger or "",
            f"{self.scale:g}" if self.scale is not None else "",
            self.version or "",
            "imported" if self.imported else "yes" if self.trained else "no",
        )


REMEMBERED = [each.name for each in fields(Row)][3:]
"""What the manifest alone says, in the order of the row."""


def rows(workspace: Workspace, kind: str | None = None) -> list[Row]:
    """Every asset, sorted; a broken manifest is a row with its problem, not an end.

    Rows are remembered by the manifests' (inode, size, mtime, ctime), so that a second look reads
    none of them.
    """
    collects = gc.isenabled()
    gc.disable()  # rows hold no circles: looking for some takes half of the time
    try:
        index = _Index(workspace.cache / "catalog.json", newest.of_all(workspace.root))
        found = [index.row(workspace, *each) for each in workspace.manifest_stats(kind)]
        index.save(whole=kind is None)
    finally:
        if collects:
            gc.enable()
    return found


class _Index:
    """What the manifests said when they were last read; may be deleted at any time."""

    def __init__(self, path: Path, versions: Mapping[str, str]) -> None:
        self._path = path
        self._versions = versions
        self._known = _read(path)
        self._seen: dict[str, list[Any]] = {}
        self._changed = False

    def row(self, workspace: Workspace, asset: AssetId, stat: os.stat_result) -> Row:
        named = str(asset)
        trained = os.path.exists(f"{workspace.root}/manifests/{named}/lock.json")
        stamp = [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        entry = self._known.get(named)
        if entry and entry[0] == stamp:
            self._seen[named] = entry
            return Row(named, trained, self._versions.get(named), *entry[1])
        row = _row(workspace, asset, trained, self._versions.get(named))
        if time.time() - max(stat.st_mtime, stat.st_ctime) > RACY_SECONDS:
            self._seen[named] = [stamp, [getattr(row, name) for name in REMEMBERED]]
            self._changed = True
        return row

    def save(self, *, whole: bool) -> None:
        """Keep what was learned.

        Args:
            whole: whether every asset was looked at, so that others are gone.
        """
        if self._changed or (whole and len(self._seen) != len(self._known)):
            kept = self._seen if whole else self._known | self._seen
            document = {"lorareg": __version__, "columns": REMEMBERED, "assets": kept}
            text = json.dumps(document, ensure_ascii=False)
            write_atomically(self._path, f"{digest.of_bytes(text.encode())}\n{text}")


def _read(path: Path) -> dict[str, list[Any]]:
    """The index of an earlier call of this version, or an empty one."""
    if not path.is_file():
        return {}
    try:
        seal, _, text = path.read_bytes().partition(b"\n")
        document = json.loads(text) if seal.decode() == digest.of_bytes(text) else None
    except (OSError, ValueError):
        return {}
    if not isinstance(document, Mapping) or document.get("lorareg") != __version__:
        return {}
    return dict(document["assets"]) if document.get("columns") == REMEMBERED else {}


def _row(workspace: Workspace, asset: AssetId, trained: bool, version: str | None) -> Row:
    """What the manifest says, read but not judged: ``lorareg status`` checks it."""
    from lorareg.registry import yamlfile

    try:
        document = yamlfile.load(workspace.manifests / str(asset) / "manifest.yaml")
    except LoraregError as error:
        return Row(str(asset), trained, version, {}, "", "", None, None, None, "", error.what)
    lora = _block(document, "lora")
    rank, alpha = lora.get("rank", 16), lora.get("alpha", 16)
    numbers = isinstance(rank, int) and rank > 0 and isinstance(alpha, int | float)
    trigger, owners = document.get("trigger"), document.get("owners")
    common: dict[str, Any] = {
        "asset": str(asset),
        "title": {key: str(text) for key, text in _block(document, "title").items()},
        "trigger": str(trigger) if trigger else None,
        "visibility": str(document.get("visibility", "team")),
        "trained": trained,
        "version": version,
        "description": str(document.get("description") or ""),
        "owners": list(map(str, owners)) if isinstance(owners, list) else [],
        "license": str(_block(document, "license").get("id") or ""),
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
