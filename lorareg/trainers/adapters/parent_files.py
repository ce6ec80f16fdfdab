"""The bytes of a parent: out of the registry, verified, or out of a bare file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lorareg.errors import IntegrityError, NotFoundError
from lorareg.registry import tensors
from lorareg.registry.lineage import Ancestor
from lorareg.registry.manifest import Manifest
from lorareg.registry.sharing import receiving
from lorareg.registry.workspace import Workspace
from lorareg.weights.adapter import LoraAdapter, to_raw
from lorareg.weights.formats import diffusers, peft


def is_weights(path: Path) -> bool:
    """Whether ``--from`` names a file: the folder of an asset holds its weights one level down."""
    files = (path / diffusers.FILE, path / peft.WEIGHTS)
    return path.is_file() or any(file.is_file() for file in files)


def identity(adapter: LoraAdapter) -> str:
    """Digest of the factors and alphas: a bare file keeps alpha beside its tensors, not in them."""
    raw = {}
    for name, layer in adapter.layers.items():
        raw[f"{name}.down"], raw[f"{name}.up"] = to_raw(layer.down), to_raw(layer.up)
        raw[f"{name}.alpha"] = to_raw(np.array([layer.alpha], np.float32))
        if layer.magnitude is not None:
            raw[f"{name}.magnitude"] = to_raw(layer.magnitude)
    return tensors.digest_of(raw)


@contextmanager
def verified(workspace: Workspace, parent: Ancestor, child: Manifest) -> Iterator[Path]:
    """A folder with the very weights that the parent's lock promises."""
    folder = workspace.folder(parent.asset)
    if workspace.weights_match(folder, parent.lock):
        yield folder.weights
    elif parent.tag:
        with workspace.history.worktree(parent.tag) as top:
            there = Workspace(top)
            there.store.borrow(workspace.store)
            fetch(there, parent, child)
            yield there.folder(parent.asset).weights
    elif (folder.weights / parent.file).is_file():
        raise IntegrityError(
            f"the weights of {parent.ref}, the parent of {child.id}, do not match its lock",
            why=f"the lock says {parent.lock.outputs[parent.file].sha256}",
            fix=f"restore them: lorareg pull {parent.asset}, or train it again",
        )
    else:
        raise NotFoundError(
            f"the weights of {parent.ref}, the parent of {child.id}, are not here",
            fix=f"lorareg pull {parent.asset}",
        )


def fetch(workspace: Workspace, parent: Ancestor, child: Manifest) -> None:
    """Get a parent's weights as its lock in this checkout promises them.

    Raises:
        NotFoundError: neither the cache nor a remote has them.
    """
    try:
        receiving.fetch_weights(workspace, parent.asset)
    except NotFoundError as error:
        why = error.sentence
    else:
        if workspace.weights_match(workspace.folder(parent.asset), parent.lock):
            return
        why = f"there is no weights.dvc with {parent.lock.outputs[parent.file].sha256}"
    raise NotFoundError(
        f"the weights of {parent.ref}, the parent of {child.id}, cannot be had",
        why=why,
        fix=f"lorareg push {parent.asset} where they are",
    )
