"""A registry with bytes in a DVC cache and on a remote, made without starting DVC."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lorareg.registry.dvc.objects import Objects
from lorareg.registry.workspace import Workspace


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class ByteStore:
    """One registry.

    Attributes:
        remote: folder that is its DVC remote "storage".
    """

    root: Path
    remote: Path

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root)

    @property
    def cache(self) -> Objects:
        return Objects(self.root / ".dvc" / "cache" / "files" / "md5")

    @property
    def far(self) -> Objects:
        return Objects(self.remote / "files" / "md5")

    @property
    def cached(self) -> set[str]:
        return names(self.cache)

    def put(self, data: bytes, md5_name: str | None = None) -> str:
        """Bytes in cache and remote, as a push leaves them; returns their md5."""
        name = md5_name or md5(data)
        for store in (self.cache, self.far):
            place = store.place(name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        return name

    def track(self, name: str, files: dict[str, bytes]) -> set[str]:
        """A pointer ``name.dvc`` to a folder; returns every object that it needs."""
        entries = [{"md5": self.put(data), "relpath": file} for file, data in sorted(files.items())]
        listing = json.dumps(entries, sort_keys=True).encode()
        top = self.put(listing, md5(listing) + ".dir")
        size = sum(map(len, files.values()))
        path = self.root / f"{name}.dvc"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"outs:\n- md5: {top}\n  size: {size}\n  nfiles: {len(files)}\n  hash: md5\n"
            f"  path: {path.name.removesuffix('.dvc')}\n"
        )
        return {top, *(entry["md5"] for entry in entries)}

    def commit(self, message: str = "state") -> None:
        git(self.root, "add", "--all")
        git(self.root, "commit", "--quiet", "--allow-empty", f"--message={message}")

    def forget_reflogs(self) -> None:
        git(self.root, "reflog", "expire", "--expire=now", "--expire-unreachable=now", "--all")


def names(store: Objects) -> set[str]:
    """The objects of a store, as DVC names them."""
    return {place.parent.name + place.name for place in store.folder.glob("??/*")}


def make(folder: Path) -> ByteStore:
    """An empty registry with one commit."""
    root, remote = folder / "registry", folder / "remote"
    for each in (root / ".dvc", remote):
        each.mkdir(parents=True)
    (root / "lorareg.yaml").write_text("schema: lorareg/1\nname: test\n")
    (root / ".gitignore").write_text("/.lorareg/\n/.dvc/cache/\n/.dvc/tmp/\n")
    (root / ".dvc" / "config").write_text(
        f"[core]\n    remote = storage\n['remote \"storage\"']\n    url = {remote}\n"
    )
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "config", "user.name", "Test")
    git(root, "config", "user.email", "test@example.org")
    made = ByteStore(root, remote)
    made.commit("first")
    return made
