"""A registry with a released adapter, and a Hub for it to go to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lorareg.registry.ids import Ref
from lorareg.registry.publishing import subject
from lorareg.registry.publishing.publish import Published, publish
from lorareg.registry.publishing.subject import Subject
from lorareg.registry.workspace import Workspace
from lorareg.weights.adapter import LoraAdapter, LoraLayer
from tests.flows.conftest import git
from tests.hubserver import HubServer
from tests.weights.composed import Shelf

NAME, REPO, VERSION = "character/zhangsan", "studio/zhangsan", "v1.0.0"
WEIGHTS = "pytorch_lora_weights.safetensors"
SECRETS = ("contracts/2026-014", "data/char_zhangsan", "holiday.png", "alice@example.org")
SD = {"model": "stable-diffusion-v1-5/stable-diffusion-v1-5", "revision": "4" * 40}
OPEN: dict[str, Any] = {
    "title": {"zh": "张三", "en": "Zhang San"},
    "description": "a man with a red hat",
    "trigger": "zzhangsan",
    "visibility": "public",
    "license": {"id": "CC-BY-4.0"},
    "scope": {"commercial": "none", "expires": "2999-12-31"},
    "owners": ["alice"],
    "sample": {"prompts": ["zzhangsan in a futuristic city"]},
    "consent": {"subject": "Zhang San", "record": SECRETS[0], "covers": ["image"]},
    "dataset": {
        "path": SECRETS[1],
        "skip": [SECRETS[2]],
        "sources": [{"title": "A set", "author": "Someone", "license": "CC0-1.0"}],
    },
    "publish": {"hub": REPO},
}


def adapter(seed: int = 0) -> LoraAdapter:
    """Weights of two modules."""
    random = np.random.default_rng(seed)

    def draw(*shape: int) -> Any:
        return random.standard_normal(shape).astype(np.float32)

    names = ("unet.down.to_q", "unet.up.to_v")
    return LoraAdapter({name: LoraLayer(draw(2, 5), draw(4, 2), 2.0) for name in names})


@dataclass
class Press:
    """The registry, and the Hub.

    Attributes:
        said: what publishing told.
    """

    shelf: Shelf
    hub: HubServer
    said: list[str]

    @classmethod
    def make(cls, root: Path, settings: str = "") -> Press:
        """An empty registry in git, and an empty Hub with the organisation ``studio``."""
        (root / "lorareg.yaml").write_text(
            f"schema: lorareg/1\nname: scratch\n{settings}", encoding="utf-8"
        )
        (root / ".gitignore").write_text("weights/\n.lorareg/\n", encoding="utf-8")
        git(root, "init", "--quiet", "--initial-branch=main")
        git(root, "config", "user.name", "Alice")
        git(root, "config", "user.email", SECRETS[3])
        hub = HubServer()
        hub.add_organisation("studio", {"alice": "admin", "bob": "write"})
        return cls(Shelf(root), hub, [])

    @property
    def workspace(self) -> Workspace:
        return self.shelf.workspace

    @property
    def token(self) -> str:
        return self.hub.add_user("alice")

    def folder(self, name: str = NAME) -> Path:
        return self.shelf.root / "manifests" / name

    def add(self, name: str = NAME, seed: int = 0, **keys: Any) -> None:
        """An adapter as ``OPEN`` says, with other keys."""
        self.shelf.add(name, adapter(seed), **{**OPEN, **keys})

    def set(self, name: str = NAME, **keys: Any) -> None:
        """Change keys of a manifest on disk; None removes one."""
        file = self.folder(name) / "manifest.yaml"
        document = json.loads(file.read_text(encoding="utf-8")) | keys
        kept = {key: value for key, value in document.items() if value is not None}
        file.write_text(json.dumps(kept), encoding="utf-8")

    def release(self, name: str = NAME, version: str = VERSION) -> None:
        """Commit everything and tag it."""
        root = self.shelf.root
        git(root, "add", "--all")
        git(root, "commit", "--quiet", "--allow-empty", "-m", f"{name} {version}")
        git(root, "tag", "-a", "-m", f"{name} {version}", f"{name}@{version}")

    def subject(self, ref: str = NAME) -> Subject:
        return subject.find(self.workspace, Ref.parse(ref))

    def publish(self, ref: str = NAME, *, dry_run: bool = False) -> Published:
        """Publish as alice, to the Hub in this process."""
        with self.hub.in_process(self.token):
            return publish(self.workspace, self.subject(ref), self.said.append, dry_run=dry_run)

    def text(self, path: str, repo: str = REPO) -> str:
        """A file on the Hub."""
        return self.hub.model(repo).head.files[path].data.decode()
