"""A registry in git with released adapters, and nothing else: no DVC, no training, no policy."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorareg.registry.ids import AssetId
from lorareg.registry.workspace import Workspace
from tests.conftest import TESTS

ZHANGSAN = AssetId("character", "zhangsan")
INK = AssetId("style", "ink")
FILE = "pytorch_lora_weights.safetensors"
MANIFEST = """\
schema: lorareg/1
kind: {kind}
name: {name}
task: text-to-image
base: {{model: "builtin:avatar"}}
trigger: z{name}
weight: {{default: 0.8}}
dataset: {{path: data/{name}}}
"""


@dataclass(frozen=True)
class Released:
    """A registry whose adapters have the releases v1.0.0, v1.1.0 ... v1.3.0."""

    root: Path

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root)

    def git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=self.root, check=True, capture_output=True, text=True
        ).stdout.strip()

    def release(self, asset: AssetId, version: str) -> None:
        """Weights of its own, their lock, a commit and a tag."""
        folder = self.root / "manifests" / str(asset)
        (folder / "weights").mkdir(parents=True, exist_ok=True)
        bytes_ = f"{asset} {version}".encode()
        (folder / "weights" / FILE).write_bytes(bytes_)
        (folder / "manifest.yaml").write_text(MANIFEST.format(**vars(asset)), encoding="utf-8")
        (folder / "lock.json").write_text(_lock(asset, bytes_), encoding="utf-8")
        self.commit(f"{asset} {version}")
        self.git("tag", "--annotate", "-m", version, f"{asset}@{version}")

    def write(self, text: str, asset: AssetId = ZHANGSAN) -> Path:
        """channels.yaml by hand; the head of the file is added."""
        file = self.workspace.folder(asset).channels
        file.write_text(f"schema: lorareg/1\n{text}", encoding="utf-8")
        return file

    def read(self, asset: AssetId = ZHANGSAN) -> str:
        text = self.workspace.folder(asset).channels.read_text(encoding="utf-8")
        return text.removeprefix("schema: lorareg/1\n")

    def commit(self, message: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", message)
        return self.git("rev-parse", "HEAD")


def build(root: Path) -> Released:
    """Two adapters with four releases each; ``weights/`` is not in git, as with DVC."""
    root.mkdir(parents=True)
    made = Released(root)
    made.git("init", "--quiet", "--initial-branch=main")
    made.git("config", "user.name", "Alice")
    made.git("config", "user.email", "alice@example.org")
    (root / "lorareg.yaml").write_text("schema: lorareg/1\nname: scratch\n", encoding="utf-8")
    (root / ".gitignore").write_text("/.lorareg/\nweights/\n", encoding="utf-8")
    for asset in (ZHANGSAN, INK):
        for number in range(4):
            made.release(asset, f"v1.{number}.0")
    return made


def _lock(asset: AssetId, bytes_: bytes) -> str:
    document: dict[str, Any] = json.loads((TESTS / "golden/v1/lock.json").read_text("utf-8"))
    digest = hashlib.sha256(bytes_).hexdigest()
    document["asset"] = str(asset)
    document["fingerprint"] = f"fingerprint-sha256-v1:{digest}"
    document["outputs"][FILE] = {
        "bytes": len(bytes_),
        "sha256": f"sha256:{digest}",
        "tensors": f"tensors-sha256-v1:{digest}",
    }
    return json.dumps(document, sort_keys=True, indent=2) + "\n"


def copy(made: Released, root: Path) -> Released:
    """The same registry in another place, for a test to change."""
    shutil.copytree(made.root, root, symlinks=True)
    return Released(root)
