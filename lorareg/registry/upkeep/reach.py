"""Which bytes somebody may still ask for: everything that any state of the registry names.

A state is a commit that git still reaches, the index, a stash, or what is on disk. Whatever looks
like an md5 in a small text of one of them is taken for bytes that are needed: a pointer, a lock, a
ledger. Too much is kept rather than too little.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lorareg.errors import LoraregError
from lorareg.registry.dvc import pointer
from lorareg.registry.dvc.objects import Objects
from lorareg.registry.git import reachable
from lorareg.registry.workspace import Workspace

MD5 = re.compile(rb"(?<![0-9a-f])([0-9a-f]{32})(\.dir)?(?![0-9a-f])")
COMMIT = re.compile(rb'"commit": ?"([0-9a-f]{40})"')
FINGERPRINT = re.compile(rb'"fingerprint": ?"[a-z0-9-]+:([0-9a-f]{64})"')
TEXTS = (".dvc", ".json", ".yaml", "dvc.lock")  # on disk; pointers elsewhere than in manifests/
NOT_OURS = {".git", ".lorareg", ".dvc", "node_modules", "__pycache__"}
MAX_BYTES = 64_000_000


@dataclass
class Reached:
    """What is needed.

    Attributes:
        md5s: of files and of listings (with ``.dir``), as DVC's cache names them.
        fingerprints: hex, of every lock.
        unread: listings that are nowhere on this disk, so that their files are not in ``md5s``.
    """

    md5s: set[str] = field(default_factory=set)
    fingerprints: set[str] = field(default_factory=set)
    unread: set[str] = field(default_factory=set)


def reached(workspace: Workspace, stores: Sequence[Objects]) -> Reached:
    """Everything that a state of the registry names.

    Args:
        workspace: the registry.
        stores: the cache and remotes on this disk, where listings of folders are looked for.

    Raises:
        ExternalToolError: the history cannot be read whole.
    """
    found = Reached()
    commits: set[str] = set()
    for text in reachable.texts(workspace.root):
        commits |= _learn(found, text)
    for text in on_disk(workspace.root):
        commits |= _learn(found, text)
    for text in reachable.texts_at(workspace.root, commits):
        _learn(found, text)
    _open_listings(found, stores)
    return found


def on_disk(root: Path) -> Iterator[bytes]:
    """Texts of the registry as they are on disk, committed or not."""
    for parent, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in NOT_OURS]
        tracked = {name.removesuffix(".dvc") for name in files if name.endswith(".dvc")}
        folders[:] = [name for name in folders if name not in tracked]  # data holds no pointers
        for name in files:
            path = Path(parent, name)
            if name.endswith(TEXTS) and path.is_file() and path.stat().st_size <= MAX_BYTES:
                yield path.read_bytes()


def _learn(found: Reached, text: bytes) -> set[str]:
    """Add what a text names; returns the commits that it pins."""
    for md5, folder in MD5.findall(text):
        found.md5s.add((md5 + folder).decode())
    found.fingerprints.update(name.decode() for name in FINGERPRINT.findall(text))
    return {commit.decode() for commit in COMMIT.findall(text)}


def _open_listings(found: Reached, stores: Iterable[Objects]) -> None:
    for md5 in [name for name in found.md5s if name.endswith(".dir")]:
        listings = [there for store in stores if (there := _listing(store, md5)) is not None]
        for listing in listings:
            found.md5s.update(listing)
        if not listings:
            found.unread.add(md5)


def _listing(store: Objects, md5: str) -> set[str] | None:
    """The files of a folder as a store has its listing, whole and undamaged."""
    file = store.place(md5)
    try:
        if pointer.file_md5(file) != md5.removesuffix(".dir"):
            return None
        return set(pointer.parse_listing(file.read_bytes(), md5).values())
    except (OSError, LoraregError):
        return None
