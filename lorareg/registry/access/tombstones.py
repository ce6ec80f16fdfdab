"""Setting a tombstone, and lifting it: what is written, signed and committed."""

from __future__ import annotations

import datetime
from contextlib import suppress

from lorareg.errors import LoraregError, NotFoundError
from lorareg.registry import card
from lorareg.registry.access import downstream, revocation, signatures
from lorareg.registry.access.downstream import Downstream
from lorareg.registry.access.revocation import Lifted, Tombstone, Tombstones
from lorareg.registry.files import as_before_if_refused
from lorareg.registry.ids import AssetId
from lorareg.registry.workspace import Workspace


def planned(
    workspace: Workspace, asset: AssetId, version: str | None, reason: str, by: str
) -> tuple[Tombstone, Downstream]:
    """The tombstone of an asset, or of one release of it, before it is set; and what it covers.

    Raises:
        NotFoundError: there is no such release.
        LoraregError: it is revoked already.
    """
    if version:
        workspace.history.resolve(f"refs/tags/{asset}@{version}")
    for stone in revocation.load(workspace, asset).revocations:
        covered = not stone.versions or (version is not None and version in stone.versions)
        if stone.lifted is None and covered:
            raise LoraregError(
                f"{asset} is revoked already",
                why=f"on {stone.on} by {stone.by}: {stone.reason}",
                fix=f"look at it: lorareg show {asset}",
            )
    stone = Tombstone(
        versions=(version,) if version else (),
        tensors=tuple(sorted(downstream.digests_of(workspace, asset, version))),
        reason=reason,
        by=by,
        on=datetime.date.today(),
    )
    # an exported file that somebody imports again names no parent: only its digest tells
    found = downstream.downstream(workspace, asset, stone)
    tensors = tuple(sorted({*stone.tensors, *found.files}))
    return stone.model_copy(update={"tensors": tensors}), found


def entomb(workspace: Workspace, asset: AssetId, stone: Tombstone) -> str | None:
    """Set a tombstone, and commit it; returns the commit.

    Raises:
        LoraregError: who works here may not; then nothing is written.
    """
    before = revocation.load(workspace, asset)
    after = before.model_copy(update={"revocations": (*before.revocations, stone)})
    return _committed(workspace, after, f"Revoke {_named(asset, stone)}: {stone.reason}")


def lift(workspace: Workspace, asset: AssetId, version: str | None, lifted: Lifted) -> str | None:
    """Take revocations back; they stay on record. Raises as ``entomb``.

    Raises:
        NotFoundError: none stands.
    """
    before = revocation.load(workspace, asset)
    wanted = (version,) if version else ()
    chosen = [s for s in before.revocations if s.lifted is None and s.versions == wanted]
    if not chosen:
        standing = [_named(asset, s) for s in before.revocations if s.lifted is None]
        shown = f"{asset}@{version}" if version else str(asset)
        raise NotFoundError(
            f"no revocation of {shown} stands",
            why=f"there is one of {', '.join(standing)}" if standing else "it is not revoked",
            fix=f"lorareg show {asset}",
        )
    stones = [
        stone.model_copy(update={"lifted": lifted}) if stone in chosen else stone
        for stone in before.revocations
    ]
    after = before.model_copy(update={"revocations": tuple(stones)})
    named = f"{asset}@{version}" if version else str(asset)
    return _committed(workspace, after, f"Lift the revocation of {named}: {lifted.reason}")


def _committed(workspace: Workspace, after: Tombstones, message: str) -> str | None:
    asset = AssetId.parse(after.asset)
    file = workspace.folder(asset).revoked
    with as_before_if_refused(file):
        revocation.save(workspace, after)
        with suppress(LoraregError):  # a lock that is broken must not protect from this
            card.refresh(workspace, asset)
        return signatures.commit(workspace, [asset], message)


def _named(asset: AssetId, stone: Tombstone) -> str:
    return ", ".join(f"{asset}@{each}" for each in stone.versions) or str(asset)
