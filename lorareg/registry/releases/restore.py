"""Taking an asset back to a release: its folder as it was then, as a new commit.

History is not rewritten: what came between stays, and the next release gets the next number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lorareg.errors import LoraregError, listed
from lorareg.registry.access import revocation, signatures
from lorareg.registry.files import write_atomically
from lorareg.registry.git import blobs
from lorareg.registry.ids import AssetId
from lorareg.registry.releases import bump, ledger, release
from lorareg.registry.sharing import receiving
from lorareg.registry.versions import Held
from lorareg.registry.workspace import Workspace

Say = Callable[[str], None]
RESTORED = ("manifest.yaml", "lock.json", "dataset.json", "weights.dvc", "README.md",
            "preview.png", "dataset.png")  # fmt: skip
"""What is of one state. Channels, grants, tombstone, ledger and attestations go on as they are."""


@dataclass(frozen=True)
class Restored:
    """What was taken back.

    Attributes:
        commit: the new one; None if the folder was in that state already.
        changes: what differs from before, a line each, as a release would say it.
    """

    asset: AssetId
    version: str
    commit: str | None
    changes: tuple[str, ...]


def restore(workspace: Workspace, state: Held, say: Say) -> Restored:
    """Bring manifest, lock, card and weights of a release back, and commit them.

    The weights are fetched and verified before a file changes, so that a release whose bytes are
    gone leaves everything as it is. An interrupted restore is finished by running it again.

    Raises:
        NotFoundError: its bytes cannot be had.
        IntegrityError: its tag was moved, or its bytes are others.
        LoraregError: the state is no release, it was revoked, or changes would be lost.
    """
    asset, version = state.asset, state.version
    if version is None:
        raise LoraregError(
            f"{asset}: what to go back to is missing", fix=f"name a release: {asset}@v1.0.0"
        )
    commit = ledger.commit_of(workspace, asset, version)
    revocation.refuse(workspace, asset, version)
    texts = _texts(workspace, asset, commit)
    _refuse_loss(workspace, asset, texts)
    changes = _changes(workspace, asset, commit)
    if state.lock.outputs:
        _bring(workspace, asset, commit)
        say(f"the weights of {state.ref} are here and match its lock")
    folder = workspace.folder(asset)
    for name, data in texts.items():
        if data is None:
            (folder.path / name).unlink(missing_ok=True)
        else:
            write_atomically(folder.path / name, data)
    if state.lock.outputs:
        receiving.fetch_weights(workspace, asset)
    made = signatures.commit(workspace, [asset], f"Restore {asset} {version}")
    say(f"committed {made[:10]}" if made else f"{asset} was at {version} already")
    return Restored(asset, version, made, changes)


def _texts(workspace: Workspace, asset: AssetId, commit: str) -> dict[str, bytes | None]:
    """The files of the release; None where it had none."""
    folder = workspace.folder(asset).path.relative_to(workspace.root)
    names = {name: f"{commit}:{(folder / name).as_posix()}" for name in RESTORED}
    found = blobs.read(workspace.root, list(names.values()))
    return {name: found.get(place) for name, place in names.items()}


def _refuse_loss(workspace: Workspace, asset: AssetId, texts: dict[str, bytes | None]) -> None:
    """Stop before something that is in no commit is overwritten; what was restored is not it."""
    folder = workspace.folder(asset).path
    lost = []
    for name in (workspace.root / path for path in workspace.history.changed([folder])):
        if name.parent == folder and name.name in texts:
            now = name.read_bytes() if name.is_file() else None
            if now != texts[name.name]:
                lost.append(name.relative_to(workspace.root).as_posix())
    if lost:
        raise LoraregError(
            f"{asset} has changes that are in no commit",
            why="\n" + listed(lost),
            fix=f"commit them (lorareg push {asset}) or put them aside "
            f"(git stash push -u -- manifests/{asset}), then run this again",
        )


def _changes(workspace: Workspace, asset: AssetId, commit: str) -> tuple[str, ...]:
    try:
        found = bump.decide(
            release.snapshot(workspace, asset, None), release.snapshot(workspace, asset, commit)
        )
    except LoraregError:
        return ()  # what is there now cannot be read: that is why it is taken back
    return tuple(str(reason) for reason in found.reasons) if found else ()


def _bring(workspace: Workspace, asset: AssetId, commit: str) -> None:
    """Fetch the bytes of a release into DVC's cache, and verify them there."""
    with workspace.history.worktree(commit) as top:
        there = Workspace(top)
        there.store.borrow(workspace.store)
        receiving.fetch_weights(there, asset)
