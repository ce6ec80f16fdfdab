"""A registry of adapters with planted weights, locks and terms; nothing in it was trained."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorareg.registry import digest, lock, yamlfile
from lorareg.registry.expression import Expression
from lorareg.registry.ids import AssetId
from lorareg.registry.workspace import Workspace
from lorareg.weights import members
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.formats import diffusers, peft
from lorareg.weights.members import Composition

GOLDEN_LOCK = Path(__file__).parents[1] / "golden/v1/lock.json"
OPEN = {"license": {"id": "MIT"}, "scope": {"commercial": "resale"}, "owners": ["alice"]}


@dataclass(frozen=True)
class Shelf:
    """The registry; ``add`` puts an adapter into it."""

    root: Path

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root)

    def add(
        self,
        name: str,
        adapter: LoraAdapter,
        *,
        task: str = "text-to-image",
        inputs: dict[str, Any] | None = None,
        statistics: dict[str, Any] | None = None,
        **manifest: Any,
    ) -> None:
        """Write manifest, weights, lock and dataset.json of an adapter.

        Args:
            name: ``kind/name``.
            adapter: its weights.
            task: of its manifest.
            inputs: of its lock, in place of the golden one's.
            statistics: of its dataset.json.
            manifest: keys of its manifest, in place of those of ``OPEN``.
        """
        asset, folder = AssetId.parse(name), self.root / "manifests" / name
        base = {"model": "builtin:avatar" if task == "text-to-image" else "builtin:smollm2"}
        document = {
            "schema": "lorareg/1", "kind": asset.kind, "name": asset.name, "task": task,
            "base": base, "dataset": {"path": f"data/{asset.name}"}, **OPEN, **manifest,
        }  # fmt: skip
        folder.mkdir(parents=True)
        yamlfile.parse(text := json.dumps(document, default=str), folder / "manifest.yaml")
        (folder / "manifest.yaml").write_text(text, encoding="utf-8")
        if task == "text-to-image":
            diffusers.write(folder / "weights" / diffusers.FILE, adapter, {})
        else:
            peft.write(folder / "weights", adapter, "base", {})
        self._lock(name, task, base["model"], inputs or {}, statistics)

    def _lock(
        self,
        name: str,
        task: str,
        model: str,
        inputs: dict[str, Any],
        statistics: dict[str, Any] | None,
    ) -> None:
        folder = self.root / "manifests" / name
        document = json.loads(GOLDEN_LOCK.read_text(encoding="utf-8"))
        document |= {"asset": name, "task": task}
        document["inputs"]["base"]["model"] = model
        files = {"a.txt": "sha256:" + "0" * 64}
        document["inputs"]["dataset"]["digest"] = digest.of_tree(files)
        document["inputs"] |= inputs
        document["outputs"] = {
            file.name: lock.output(file).model_dump(mode="json")
            for file in sorted((folder / "weights").iterdir())
        }
        (folder / "lock.json").write_text(json.dumps(document), encoding="utf-8")
        index = {"files": files, "records": {}, "statistics": statistics or {}}
        (folder / "dataset.json").write_text(json.dumps(index), encoding="utf-8")

    def compose(self, expression: str) -> Composition:
        return members.resolve(self.workspace, Expression.parse(expression))
