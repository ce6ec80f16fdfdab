"""A team with everything on one disk: git remote, DVC remotes, clones, all by relative paths.

So a world can be copied as often as faults are tried, and with fixed dates and keys two worlds in
which the same commands ran are equal down to the ids of their commits.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lorareg.errors import LoraregError
from lorareg.registry.access import policy, signatures
from lorareg.registry.dvc import pointer
from lorareg.registry.dvc.config import as_text
from lorareg.registry.dvc.objects import Objects
from lorareg.registry.dvc.store import SETTINGS
from lorareg.registry.files import TEMPORARY
from lorareg.registry.git.clone import clone
from lorareg.registry.ids import AssetId
from lorareg.registry.sharing import receiving
from lorareg.registry.workspace import Workspace
from lorareg.weights.adapter import LoraAdapter, LoraLayer
from tests.registry.published import OPEN
from tests.registry.releases.team import allowed, git, introduce, relock
from tests.weights.composed import Shelf

REPO = Path(__file__).parents[2]
PUBLIC = {key: value for key, value in OPEN.items() if key not in ("consent", "dataset", "publish")}
POLICY = """\
schema: lorareg/1
people: {alice: {mail: alice@example.org}}
roles: {maintainer: [alice]}
kinds: {"*": [alice]}
"""
NOT_TRUTH = {".git", ".lorareg"}  # of a clone: its history is compared apart, the rest is cache


def adapter(seed: int, modules: int = 20, side: int = 1024) -> LoraAdapter:
    """Some megabytes of weights that nobody trained."""
    random = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    names = [f"unet.down_blocks.1.attentions.{number}.to_q" for number in range(modules)]
    return LoraAdapter({name: LoraLayer(draw(8, side), draw(side, 8), 8.0) for name in names})


@dataclass(frozen=True)
class World:
    """A folder with ``origin.git``, the DVC remote ``bytes`` and everybody's clones."""

    top: Path

    @property
    def origin(self) -> Path:
        return self.top / "origin.git"

    @property
    def bytes(self) -> Path:
        return self.top / "bytes"

    @property
    def remote(self) -> Objects:
        return Objects(self.bytes / "files" / "md5")

    def clone(self, name: str) -> Path:
        return self.top / name

    def workspace(self, name: str = "alice") -> Workspace:
        return Workspace(self.clone(name))

    def copy(self, top: Path) -> World:
        """The same team in another place."""
        shutil.copytree(self.top, top, symlinks=True)
        for file in top.glob("*/.git/config"):  # where bytes go is pinned there
            file.write_text(file.read_text().replace(str(self.top), str(top)))
        return World(top)

    def asset(self, name: str) -> AssetId:
        return AssetId.parse(name)

    def put(self, data: bytes, store: Objects) -> None:
        """Bytes among the objects."""
        place = store.place(hashlib.md5(data, usedforsecurity=False).hexdigest())
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)

    def join(self, name: str) -> Path:
        """A clone more, of somebody who signs as alice."""
        root = self.clone(name)
        subprocess.run(["git", "clone", "-q", str(self.origin), str(root)], check=True)
        for key in ("user.name", "user.email", "gpg.format", "user.signingKey"):
            git(root, "config", key, git(self.clone("alice"), "config", key))
        own(root)
        return root

    def add(self, name: str, seed: int, clone: str = "alice", **keys: Any) -> AssetId:
        """An adapter that is ready to be pushed or released."""
        root = self.clone(clone)
        asset = AssetId.parse(name)
        shutil.rmtree(root / "manifests" / name, ignore_errors=True)
        Shelf(root).add(name, adapter(seed), **{**PUBLIC, "trigger": f"z{asset.name}", **keys})
        relock(root, asset)
        return asset

    def change(self, name: str, seed: int, clone: str = "alice") -> AssetId:
        """Other weights for an adapter, as another run would make them."""
        folder = self.workspace(clone).folder(AssetId.parse(name)).path
        left = ("manifest.yaml", "lock.json", "dataset.json")
        kept = {path: path.read_bytes() for path in folder.iterdir()
                if path.is_file() and path.name not in left}  # fmt: skip
        self.add(name, seed, clone)
        for path, data in kept.items():
            path.write_bytes(data)
        return AssetId.parse(name)

    def commit(self, clone: str, *names: str) -> None:
        """Sign and commit assets with their pointers, and announce nothing."""
        from lorareg.registry.sharing import pushing

        workspace = self.workspace(clone)
        assets = [AssetId.parse(name) for name in names]
        for asset in assets:
            pushing.track(workspace, asset)
        signatures.commit(workspace, assets, "by hand", pushing.commit_paths(workspace, assets))


def found(top: Path, keys: Path) -> World:
    """A team of alice, whose registry has a policy and one adapter, all of it pushed."""
    from lorareg.registry.sharing import pushing

    top.mkdir(parents=True)
    git(top, "init", "-q", "--bare", "-b", "main", "origin.git")
    world = World(top)
    root = world.clone("alice")
    (root / ".dvc").mkdir(parents=True)
    place = {('remote "bytes"', "url"): "../../bytes", ("core", "remote"): "bytes"}
    (root / ".dvc/config").write_text(as_text({**SETTINGS, **place}))
    (root / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (root / ".gitignore").write_text("/.lorareg/\n")
    (root / "lorareg.yaml").write_text("schema: lorareg/1\nname: team\nhub: {namespace: studio}\n")
    git(root, "init", "-q", "-b", "main")
    git(root, "remote", "add", "origin", "../origin.git")
    own(root)
    alice = introduce(root, keys, "alice")
    git(root, "add", "--all")
    git(root, "commit", "-qm", "a registry")
    (root / "manifests").mkdir()
    (root / policy.FILE).write_text(POLICY, encoding="utf-8")
    (root / policy.SIGNERS).write_text(allowed(keys, "alice"), encoding="utf-8")
    signatures.commit_policy(alice.workspace, "Policy")
    world.add("style/ink", 1)
    pushing.push(alice.workspace, list(alice.workspace.assets()), print)
    return world


def own(root: Path) -> None:
    """Settings of a clone: a server is not killed when its client is."""
    git(root, "config", "remote.origin.url", "../origin.git")
    git(root, "config", "remote.origin.receivepack", "setsid git-receive-pack")
    git(root, "config", "gc.auto", "0")


def environment(**more: str) -> dict[str, str]:
    """Of a command in a process of its own."""
    # somebody who works offline tests as well: the Hub here is on loopback
    own = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    return {**own, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1", **more}


def command(*words: str) -> list[str]:
    """A lorareg command line."""
    return [sys.executable, "-m", "lorareg", *words]


def state(world: World, clone: str) -> dict[str, str]:
    """Everything that has to be equal where the same was done: what -> digest or id."""
    found = {f"tree {name}": of for name, of in _tree(world.clone(clone))}
    for place in (world.clone(clone), world.origin):
        for line in git(place, "for-each-ref", "--format=%(refname) %(objectname)").splitlines():
            name, _, oid = line.partition(" ")
            if not name.startswith("refs/remotes/"):  # a memory that the next fetch renews
                found[f"{place.name} {name}"] = oid
        assert damaged(place) == []
    workspace = world.workspace(clone)
    found["uncommitted"] = " ".join(map(str, workspace.history.changed()))
    for label, store in (("remote", world.remote), ("cache", workspace.store.cache)):
        found |= {f"{label} {md5}": "" for md5 in objects(store)}
    return found


def damaged(repository: Path) -> list[str]:
    """What git finds broken, but for checkouts of killed commands, which the next one removes."""
    command = ["git", "-C", str(repository), "fsck", "--no-dangling", "--no-progress"]
    told = subprocess.run(command, capture_output=True, text=True).stderr.splitlines()
    return [line for line in told if not line.startswith("error: worktrees/lorareg-")]


def differences(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """Where two states differ, in words."""
    names = sorted(found.keys() | wanted.keys())
    return [
        f"{name}: {found.get(name, 'is missing')!r}, not {wanted.get(name, 'nothing')!r}"
        for name in names
        if found.get(name) != wanted.get(name)
    ]


def objects(store: Objects) -> list[str]:
    """The names of objects, all of which hold what they say."""
    found = []
    for place in sorted(store.folder.glob("??/*")):
        md5 = place.parent.name + place.name
        assert pointer.file_md5(place) == md5.removesuffix(".dir"), f"{place} is damaged"
        found.append(md5)
    return found


def half_announced(world: World, scratch: Path) -> list[str]:
    """What a stranger finds wrong: commits and tags without bytes, pulls that are refused."""
    scratch.parent.mkdir(parents=True, exist_ok=True)
    root = clone(str(world.origin), scratch).root
    git(root, "config", "remote.origin.url", str(world.origin))
    wrong = [f"{name}: {why}" for name, why in _without_bytes(world, root)]
    (scratch / ".dvc/config.local").write_text(
        as_text({('remote "bytes"', "url"): str(world.bytes)})
    )
    workspace = Workspace(root)
    pulled = receiving.pull_each(workspace, list(workspace.assets()), lambda text: None)
    wrong += [f"{name}: {error.what} {error.why}" for name, error in pulled.refused.items()]
    shutil.rmtree(scratch)
    return wrong


def half_placed(world: World, clone: str) -> list[str]:
    """Folders of weights that are there, are not what their lock says, and are called fine."""
    from lorareg.trainers.states import States

    workspace = world.workspace(clone)
    wrong = []
    for asset in workspace.assets():
        folder, known = workspace.folder(asset), workspace.load_lock(asset)
        if not folder.weights.is_dir():
            continue
        here = {path.name: f"sha256:{_sha256(path)}" for path in folder.weights.iterdir()}
        promised = {name: output.sha256 for name, output in known.outputs.items()}
        (told,) = States(workspace).of([asset])
        if here != promised and told.state == "up-to-date":
            wrong.append(f"{asset} has {sorted(here)} and is called {told.state}")
    return wrong


def _without_bytes(world: World, root: Path) -> Iterator[tuple[str, str]]:
    """Pointers of any commit that is announced whose bytes are not all on the remote."""
    names = git(root, "rev-list", "--objects", "--all").splitlines()
    for oid, _, name in (line.partition(" ") for line in names):
        if not name.endswith("/weights.dvc"):
            continue
        tracked = pointer.parse(root, root / name, git(root, "cat-file", "blob", oid))
        try:
            files = world.remote.files(tracked)
        except LoraregError as error:
            yield name, f"{error.what} {error.why}"
            continue
        for file in files.values():
            if pointer.file_md5(file) != file.parent.name + file.name:
                yield name, f"{file} is damaged"


def _tree(root: Path) -> Iterator[tuple[str, str]]:
    for parent, folders, files in os.walk(root):
        here = Path(parent)
        folders[:] = [name for name in folders if name not in NOT_TRUTH]
        if here == root / ".dvc":
            folders[:] = []
        for name in files:
            path = here / name
            if not TEMPORARY.fullmatch(name):  # never committed; gc finds them
                yield path.relative_to(root).as_posix(), _sha256(path)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
