"""What there is in a registry, a row an asset; fast, and without torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from lorareg.errors import LoraregError
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
    """Every asset, sorted; a broken manifest is a row with its problem, not an end."""
    return [_row(workspace, a) for a in workspace.assets() if kind is None or a.kind == kind]


def _row(workspace: Workspace, asset: AssetId) -> Row:
    trained = workspace.folder(asset).lock.is_file()
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
