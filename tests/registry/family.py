"""A registry of adapters that start from each other; nothing in it was really trained."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorareg.registry import lineage, lock
from lorareg.registry.bases.base import resolve
from lorareg.registry.digest import DigestCache
from lorareg.registry.ids import AssetId
from lorareg.registry.lock import Lock, Member, ParentInput
from lorareg.registry.manifest import Base
from lorareg.registry.workspace import Workspace
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.formats import diffusers

GOLDEN_LOCK = Path(__file__).parents[1] / "golden/v1/lock.json"
AVATAR = resolve(Base(model="builtin:avatar"), "text-to-image", Path(), DigestCache(None)).digest


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()


def tensors(letter: str) -> str:
    return "tensors-sha256-v1:" + letter * 64


@dataclass
class Family:
    """The registry; every method changes or asks it."""

    root: Path

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root)

    def write(self, name: str, parent: str | None = None) -> None:
        asset = AssetId.parse(name)
        path = self.root / "manifests" / name / "manifest.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"schema: lorareg/1\nkind: {asset.kind}\nname: {asset.name}\ntask: text-to-image\n"
            f"base: {{model: builtin:avatar}}\ndataset: {{path: data/{asset.name}}}\n"
            + (f"parent: {parent}\n" if parent else ""),
            encoding="utf-8",
        )

    def lock(self, name: str, letter: str, parent: ParentInput | None = None) -> None:
        """Write a lock whose weights have the digest of ``letter``; pins the parent at HEAD."""
        document: dict[str, Any] = json.loads(GOLDEN_LOCK.read_text(encoding="utf-8"))
        document["asset"] = name
        document["inputs"]["base"]["digest"] = AVATAR
        for output in document["outputs"].values():
            output["tensors"] = tensors(letter) if output["tensors"] else None
        if parent:
            document["inputs"]["parent"] = parent.model_dump(mode="json")
            if not parent.file:
                member = Member(
                    ref=parent.ref, weight=1.0, commit=git(self.root, "rev-parse", "HEAD"),
                    file="w.safetensors", sha256="sha256:" + "0" * 64, tensors=parent.tensors,
                )  # fmt: skip
                document["parents"] = [member.model_dump(mode="json")]
        path = self.root / "manifests" / name / "lock.json"
        path.write_text(json.dumps(document), encoding="utf-8")

    def weights(self, name: str, adapter: LoraAdapter) -> None:
        """Write weights, and the lock that belongs to them."""
        folder = self.root / "manifests" / name / "weights"
        diffusers.write(folder / diffusers.FILE, adapter, {})
        self.lock(name, "0")
        path = folder.parent / "lock.json"
        document = json.loads(path.read_text(encoding="utf-8"))
        facts = lock.output(folder / diffusers.FILE)
        document["outputs"] = {diffusers.FILE: facts.model_dump(mode="json")}
        path.write_text(json.dumps(document), encoding="utf-8")

    def commit(self, *tags: str) -> None:
        git(self.root, "add", "--all")
        git(self.root, "commit", "--quiet", "--allow-empty", "-m", "more")
        for tag in tags:
            git(self.root, "tag", "-m", "release", tag)

    def parent_of(self, name: str) -> lineage.Ancestor | None:
        manifest = self.workspace.load_manifest(AssetId.parse(name))
        return lineage.parent_of(self.workspace, manifest)

    def input_of(self, name: str) -> ParentInput | None:
        manifest = self.workspace.load_manifest(AssetId.parse(name))
        return lineage.parent_input(self.workspace, manifest)

    def loaded(self, name: str) -> Lock:
        found = self.workspace.load_lock(AssetId.parse(name))
        assert found
        return found
