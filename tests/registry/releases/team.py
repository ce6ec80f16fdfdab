"""A registry of planted adapters that is ready for a release, and people with keys."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorareg.registry import yamlfile
from lorareg.registry.bases import base
from lorareg.registry.git.clone import clone
from lorareg.registry.ids import AssetId
from lorareg.registry.lock import fingerprint
from lorareg.registry.workspace import Workspace
from lorareg.weights.adapter import LoraAdapter
from tests.weights.composed import Shelf
from tests.weights.planted import SMALL, sharing

INK, OTHER, THIRD = sharing(SMALL, [4, 4, 4], 0.0, seed=1)
STYLE = AssetId("style", "ink")
POLICY = """\
schema: lorareg/1
people:
  alice: {mail: alice@example.org}
  bob: {mail: bob@example.org}
  carol: {mail: carol@example.org}
roles: {maintainer: [carol]}
kinds: {style: [alice]}
"""


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@dataclass(frozen=True)
class Person:
    """Somebody with a clone and a key of their own."""

    name: str
    root: Path

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root)

    def git(self, *arguments: str) -> str:
        return git(self.root, *arguments)

    def set_keys(self, asset: AssetId, **keys: Any) -> None:
        """Change a manifest, and the lock so that it is not stale."""
        self.workspace.edit_manifest(asset, {k.replace("__", "."): v for k, v in keys.items()})
        relock(self.root, asset)

    def train(self, asset: AssetId, adapter: LoraAdapter) -> None:
        """Put other weights in, as another run would."""
        folder = self.workspace.folder(asset)
        manifest = yamlfile.load(folder.manifest)
        for path in (folder.weights, folder.pointer, folder.lock, folder.dataset, folder.manifest):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        kept = {path: path.read_bytes() for path in folder.path.iterdir() if path.is_file()}
        shutil.rmtree(folder.path)
        manifest.pop("kind"), manifest.pop("name"), manifest.pop("schema"), manifest.pop("base")
        Shelf(self.root).add(str(asset), adapter, **manifest)
        for path, data in kept.items():
            path.write_bytes(data)
        relock(self.root, asset)


def relock(root: Path, asset: AssetId) -> None:
    """Let the lock say what a run with this manifest would say."""
    workspace = Workspace(root)
    file, manifest = workspace.folder(asset).lock, workspace.load_manifest(asset)
    document = json.loads(file.read_text("utf-8"))
    found = base.resolve(manifest.base, manifest.task, root, workspace.digests)
    inputs = document["inputs"]
    inputs["base"]["digest"] = found.digest
    inputs["config"] = {"resolved": manifest.config(), "digest": manifest.config_digest()}
    inputs["dataset"]["path"] = manifest.dataset.path
    document["fingerprint"] = fingerprint(
        config=inputs["config"]["digest"],
        dataset=inputs["dataset"]["digest"],
        base=found.digest,
    )
    file.write_text(json.dumps(document), "utf-8")


def keygen(folder: Path, name: str) -> Path:
    file = folder / f"{name}.key"
    if not file.exists():
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(file)], check=True
        )
    return file


def introduce(root: Path, keys: Path, name: str) -> Person:
    """Say to git who works in a clone."""
    git(root, "config", "user.name", name.capitalize())
    git(root, "config", "user.email", f"{name}@example.org")
    git(root, "config", "gpg.format", "ssh")
    git(root, "config", "user.signingKey", str(keygen(keys, name)) + ".pub")
    return Person(name, root)


def join(origin: Path, keys: Path, name: str) -> Person:
    """A clone of their own."""
    return introduce(clone(str(origin), origin.parent / name).root, keys, name)


def allowed(keys: Path, *names: str) -> str:
    lines = [f"{name} {(keygen(keys, name).with_suffix('.key.pub')).read_text()}" for name in names]
    return "".join(lines)
