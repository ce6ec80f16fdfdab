"""A team: registries of small adapters that nobody trained, one git remote, folders for bytes."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lorareg.registry import lock, tensors
from lorareg.registry.dvc import config as dvcconfig
from lorareg.registry.dvc.store import SETTINGS
from lorareg.registry.ids import AssetId
from lorareg.registry.sharing import pushing, receiving
from lorareg.registry.sharing.pushing import Pushed
from lorareg.registry.sharing.receiving import Pulled
from lorareg.registry.tensors import RawTensor
from lorareg.registry.workspace import Workspace

GOLDEN_LOCK = Path(__file__).parents[1] / "golden/v1/lock.json"
FILE = "pytorch_lora_weights.safetensors"


def git(root: Path, *arguments: str) -> str:
    return subprocess.check_output(["git", *arguments], cwd=root, text=True).strip()


@dataclass
class Member:
    """One person's clone; every method changes or asks it."""

    root: Path

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root)

    def adapter(self, name: str, number: float = 0.0, visibility: str = "team") -> AssetId:
        """An adapter whose one tensor holds a number, and the lock that belongs to it."""
        asset = AssetId.parse(name)
        folder = self.workspace.folder(asset)
        folder.weights.mkdir(parents=True, exist_ok=True)
        folder.manifest.write_text(
            f"schema: lorareg/1\nkind: {asset.kind}\nname: {asset.name}\ntask: text-to-image\n"
            f"base: {{model: builtin:avatar}}\ndataset: {{path: data/{asset.name}}}\n"
            f"visibility: {visibility}\n",
            encoding="utf-8",
        )
        values = f"{number:08.3f}".encode()
        tensors.write(folder.weights / FILE, {"a": RawTensor("U8", (len(values),), values)}, {})
        self.lock(asset)
        return asset

    def lock(self, asset: AssetId) -> None:
        folder = self.workspace.folder(asset)
        document = json.loads(GOLDEN_LOCK.read_text(encoding="utf-8"))
        document["asset"] = str(asset)
        facts = lock.output(folder.weights / FILE)
        document["outputs"] = {FILE: facts.model_dump(mode="json")}
        lock.save(folder.lock, document)

    def data(self, asset: AssetId, text: str = "one") -> Path:
        folder = self.root / "data" / asset.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "1.txt").write_text(text, encoding="utf-8")
        return folder

    def push(self, *assets: AssetId) -> Pushed:
        return pushing.push(self.workspace, assets or list(self.workspace.assets()), print)

    def pull(self, *assets: AssetId) -> Pulled:
        self.workspace.history.pull()
        return receiving.pull_each(self.workspace, assets or list(self.workspace.assets()), print)

    def weights(self, asset: AssetId) -> Path:
        return self.workspace.folder(asset).weights / FILE

    def object_at(self, asset: AssetId, remote: str) -> Path:
        """The adapter's file as the remote keeps it."""
        store = self.workspace.store
        tracked = store.pointer(self.workspace.folder(asset).pointer)
        (md5,) = store.cache.listing(tracked).values()
        return Path(store.remotes()[remote], "files/md5", md5[:2], md5[2:])


@dataclass
class Team:
    """A folder with the git remote ``origin.git`` and everybody's clones."""

    top: Path

    def member(self, name: str) -> Member:
        git(self.top, "clone", "-q", str(self.top / "origin.git"), name)
        git(self.top / name, "config", "user.name", name)
        git(self.top / name, "config", "user.email", f"{name}@example.org")
        return Member(self.top / name)


def found(top: Path) -> Team:
    """A team whose first member has pushed an empty registry; bytes by visibility."""
    git(top, "init", "-q", "--bare", "-b", "main", "origin.git")
    start = top / "start"
    (start / ".dvc").mkdir(parents=True)
    remotes = {"storage": str(top / "team"), "vault": str(top / "vault")}
    places = {(f'remote "{name}"', "url"): place for name, place in remotes.items()}
    settings = {**SETTINGS, ("core", "remote"): "storage", **places}
    (start / ".dvc/config").write_text(dvcconfig.as_text(settings))
    (start / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (start / ".gitignore").write_text("/.lorareg/\n")
    (start / "lorareg.yaml").write_text(
        "schema: lorareg/1\nname: team\nremotes: {private: vault}\n"
    )
    git(start, "init", "-q", "-b", "main")
    for key, value in (("user.name", "start"), ("user.email", "start@example.org")):
        git(start, "config", key, value)
    git(start, "remote", "add", "origin", str(top / "origin.git"))
    git(start, "add", "--all")
    git(start, "commit", "-qm", "start")
    git(start, "push", "-q", "origin", "main")
    return Team(top)


def copy(team: Team, to: Path) -> Team:
    """The same team elsewhere; DVC is slow to set up."""
    shutil.copytree(team.top, to, symlinks=True)
    config = to / "start/.dvc/config"
    config.write_text(config.read_text().replace(str(team.top), str(to)))
    git(to / "start", "remote", "set-url", "origin", str(to / "origin.git"))
    git(to / "start", "commit", "-qam", "moved")
    git(to / "start", "push", "-q", "origin", "main")
    return Team(to)
