"""A large registry that was never trained: plausible assets, each up to date, with its bytes.

Every asset has what a trained one has: manifest, lock, index of the dataset, weights with their
DVC pointer and cache objects, and a dataset of its own. Digests are right, so that ``lorareg
status`` finds nothing to say; the weights are small and no model.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorareg.registry import digest, lock
from lorareg.registry.bases import base
from lorareg.registry.digest import DigestCache
from lorareg.registry.ids import AssetId
from lorareg.registry.manifest import Manifest
from lorareg.registry.workspace import Workspace

PICTURES = 3  # of a dataset
MODULES = 24  # that a pretended run adapted: the length of a lock is that of a real one
MANIFEST = """\
schema: lorareg/1
kind: {kind}
name: {name}
title: {{zh: 角色{number}, en: Person {number}}}
task: text-to-image
base: {{model: "builtin:avatar"}}
trigger: z{kind}{number}
weight: {{default: 0.8, range: [0.6, 1.0]}}
dataset: {{path: data/{kind}/{name}, captions: metadata.csv}}
lora: {{rank: 8, alpha: 8, targets: attention}}
train: {{resolution: 64, batch_size: 8, epochs: 50, learning_rate: 2e-3, scheduler: cosine,
        warmup_steps: 10, seed: 42, validation: {{share: 0.15, patience: 5}}}}
sample: {{prompts: ["portrait, smiling, blue background"], every_steps: 200}}
owners: [alice, group:characters]
visibility: team
license: {{id: CC-BY-4.0}}
scope: {{commercial: none, derivatives: true, merge: true, credit: true, expires: 2037-12-31}}
"""
RECIPE = """\
schema: lorareg/1
kind: recipe
name: {name}
title: {{en: Mix {number}}}
parts:
  - {{ref: {first}, weight: 0.8}}
  - {{ref: {second}, weight: 0.6}}
visibility: team
"""


@dataclass(frozen=True)
class Made:
    """An adapter as a recipe pins it."""

    asset: AssetId
    file: str
    sha256: str
    tensors: str


def make(root: Path, count: int, *, weights_bytes: int = 512, data: bool = True) -> list[AssetId]:
    """Write a registry of so many assets into an empty folder, and commit it.

    Args:
        root: empty or new.
        count: of assets; one in twenty is a recipe.
        weights_bytes: of each adapter.
        data: whether each has its dataset on disk.
    """
    root.mkdir(parents=True, exist_ok=True)
    (root / "lorareg.yaml").write_text("schema: lorareg/1\nname: many\n", encoding="utf-8")
    (root / ".gitignore").write_text("/.lorareg/\n", encoding="utf-8")
    (root / ".dvc").mkdir(exist_ok=True)
    (root / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n", encoding="utf-8")
    (root / ".dvc" / "config").write_text("[core]\n    analytics = false\n", encoding="utf-8")
    recipes = count // 20
    writer = _Writer(Workspace(root), weights_bytes, data)
    made = [writer.adapter(number) for number in range(count - recipes)]
    mixes = [writer.recipe(number, made[number], made[-1 - number]) for number in range(recipes)]
    _git(root, "init", "--quiet", "--initial-branch=main")
    _git(root, "config", "user.name", "Benchmark")
    _git(root, "config", "user.email", "benchmark@example.org")
    _git(root, "config", "gc.auto", "0")
    _git(root, "add", "--all")
    _git(root, "commit", "--quiet", "--message=assets")
    return [*(each.asset for each in made), *mixes]


class _Writer:
    """Writes assets; what all have in common is computed once."""

    def __init__(self, workspace: Workspace, weights_bytes: int, data: bool) -> None:
        self._workspace = workspace
        self._bytes = weights_bytes
        self._with_data = data
        self._base: dict[str, Any] | None = None
        self._config: dict[str, Any] = {}

    def adapter(self, number: int) -> Made:
        asset = AssetId("style" if number % 5 == 4 else "character", f"asset-{number:05d}")
        folder = self._workspace.folder(asset)
        folder.weights.mkdir(parents=True)
        text = MANIFEST.format(kind=asset.kind, name=asset.name, number=number)
        folder.manifest.write_text(text, encoding="utf-8")
        if self._base is None:
            self._learn(self._workspace.load_manifest(asset))
        (folder.path / ".gitignore").write_text("/weights\n", encoding="utf-8")
        body = hashlib.shake_256(str(asset).encode()).digest(self._bytes)
        file = "pytorch_lora_weights.safetensors"
        pointed = self._track(folder.weights, {file: body})
        dataset = self._dataset(asset)
        document = self._lock(asset, dataset, file, body, pointed)
        _write(folder.lock, document)
        index = {"files": dataset, "records": {}, "statistics": {}}
        _write(folder.dataset, index)
        output = document["outputs"][file]
        return Made(asset, file, output["sha256"], output["tensors"])

    def recipe(self, number: int, first: Made, second: Made) -> AssetId:
        asset = AssetId("recipe", f"mix-{number:05d}")
        folder = self._workspace.folder(asset)
        folder.path.mkdir(parents=True)
        parts = {"first": first.asset, "second": second.asset}
        text = RECIPE.format(name=asset.name, number=number, **parts)
        folder.manifest.write_text(text, encoding="utf-8")
        members = [_member(first, 0.8), _member(second, 0.6)]
        identities = [[member["tensors"], member["weight"]] for member in members]
        document = {
            "schema": lock.SCHEMA,
            "asset": str(asset),
            "task": "text-to-image",
            "base": self._base,
            "members": members,
            "fingerprint": digest.of_json(identities, "recipe-sha256-v1"),
        }
        _write(folder.lock, document)
        return asset

    def _learn(self, manifest: Manifest) -> None:
        found = base.resolve(manifest.base, manifest.task, self._workspace.root, DigestCache(None))
        self._base = {"model": "builtin:avatar", "revision": None, "digest": found.digest}
        self._config = {"digest": manifest.config_digest(), "resolved": manifest.config()}

    def _dataset(self, asset: AssetId) -> dict[str, str]:
        names = [f"img{number:03d}.png" for number in range(PICTURES)]
        files = {name: f"{asset} {name}".encode() for name in names}
        rows = "".join(f"{name},portrait of {asset.name}\n" for name in names)
        files["metadata.csv"] = f"file_name,text\n{rows}".encode()
        if self._with_data:
            folder = self._workspace.root / "data" / asset.kind / asset.name
            folder.mkdir(parents=True)
            self._track(folder, files)
            (folder.parent / ".gitignore").write_text("*\n!*.dvc\n", encoding="utf-8")
        return {name: digest.of_bytes(body) for name, body in files.items()}

    def _lock(
        self, asset: AssetId, dataset: dict[str, str], file: str, body: bytes, pointed: str
    ) -> dict[str, Any]:
        tree = digest.of_tree(dataset)
        given = {"digest": tree, "files": len(dataset), "md5": None, "records": PICTURES}
        assert self._base is not None
        return {
            "schema": lock.SCHEMA,
            "asset": str(asset),
            "task": "text-to-image",
            "inputs": {
                "base": self._base,
                "config": self._config,
                "dataset": given | {"path": f"data/{asset}"},
                "trainer": lock.TRAINER,
                "chat_template": None,
            },
            "environment": {
                "commit": None,
                "device": "cpu",
                "dirty": False,
                "packages": {"torch": "2.13.0", "diffusers": "0.42.1", "lorareg": "0.1.0"},
                "platform": "linux x86_64",
                "precision": "bf16",
                "python": "3.11.7",
                "threads": 1,
            },
            "fingerprint": lock.fingerprint(
                config=self._config["digest"], dataset=tree, base=self._base["digest"]
            ),
            "outputs": {
                file: {
                    "bytes": len(body),
                    "sha256": digest.of_bytes(body),
                    "tensors": digest.of_json(pointed, "tensors-sha256-v1"),
                }
            },
            "parents": [],
            "result": {
                "alpha": 8.0,
                "base_validation_loss": 0.35,
                "best_step": 294,
                "held_out": 1,
                "modules": MODULES,
                "rank": 8,
                "replies": [],
                "seconds": 146.9,
                "steps": 300,
                "stopped": "finished",
                "train_loss": 0.05,
                "validation_loss": 0.07,
            },
        }

    def _track(self, folder: Path, files: dict[str, bytes]) -> str:
        """Write a folder, its objects and its pointer as ``dvc add`` would; returns the md5."""
        cache = self._workspace.store.cache
        entries = []
        for name, body in sorted(files.items()):
            (folder / name).write_bytes(body)
            md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
            _put(cache.place(md5), body)
            entries.append({"md5": md5, "relpath": name})
        listing = json.dumps(entries, sort_keys=True).encode()
        md5 = hashlib.md5(listing, usedforsecurity=False).hexdigest() + ".dir"
        _put(cache.place(md5), listing)
        size = sum(map(len, files.values()))
        folder.with_name(f"{folder.name}.dvc").write_text(
            f"outs:\n- md5: {md5}\n  size: {size}\n  nfiles: {len(files)}\n  hash: md5\n"
            f"  path: {folder.name}\n",
            encoding="utf-8",
        )
        return md5


def _member(made: Made, weight: float) -> dict[str, Any]:
    return {
        "ref": str(made.asset),
        "weight": weight,
        "commit": None,
        "file": made.file,
        "sha256": made.sha256,
        "tensors": made.tensors,
    }


def _write(path: Path, document: dict[str, Any]) -> None:
    """As ``lock.save``, without waiting for the disk."""
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, indent=2)
    path.write_text(text + "\n", encoding="utf-8")


def _put(place: Path, body: bytes) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(body)


def _git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(root), *arguments], check=True, stdout=subprocess.DEVNULL)
