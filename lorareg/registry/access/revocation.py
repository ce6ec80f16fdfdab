"""``revoked.json``, the tombstone of an asset: that it may no longer be used, and why.

What descends from a revoked adapter, or is composed of it, is revoked with it. That is found from
locks alone, upward from the asset in question, so nothing is written into the folders of others.
Of one version its weights are revoked, by their tensor digest: the same weights under another
version or name are so too, other weights of the same adapter are not.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from lorareg.errors import InvalidFileError, LoraregError, NotFoundError
from lorareg.registry import jsontext, lock
from lorareg.registry.access import marks
from lorareg.registry.access.marks import FILE
from lorareg.registry.assetfolder import AssetFolder
from lorareg.registry.files import read_own, refuse_elsewhere
from lorareg.registry.ids import VERSION, AssetId
from lorareg.registry.lock import ImportedLock, Lock, RecipeLock, TrainedLock
from lorareg.registry.origin import Digest
from lorareg.registry.revisions import lock_at
from lorareg.registry.schema import Later, Strict, check
from lorareg.registry.workspace import Workspace

SCHEMA: Literal["lorareg/1"] = "lorareg/1"
MAX_BYTES = 4_000_000
Version = Annotated[str, Field(pattern=rf"^{VERSION.pattern}$", description="v1.2.0")]
Reason = Annotated[str, Field(pattern=r"^\S[^\x00-\x1f\x7f]*$", max_length=500)]


class Lifted(Strict):
    """That a revocation holds no longer."""

    reason: Reason
    by: str
    on: datetime.date


class Tombstone(Strict):
    """One revocation.

    Attributes:
        versions: releases that are revoked; empty is the asset with all it ever was and will be.
        tensors: digests of the weights that are revoked, under whatever name.
        lifted: by whom it was taken back; it then stays as a record.
    """

    versions: tuple[Version, ...] = ()
    tensors: tuple[Digest, ...] = ()
    reason: Reason
    by: str
    on: datetime.date
    lifted: Annotated[Lifted | None, Later()] = None


class Tombstones(Strict):
    """``revoked.json``."""

    schema_: Annotated[Literal["lorareg/1"], Field(alias="schema")] = SCHEMA
    asset: str
    revocations: tuple[Tombstone, ...] = ()


Stones = list[tuple[AssetId, Tombstone]]
"""Revoked assets, each with a tombstone that stands."""


@dataclass(frozen=True)
class Revocation:
    """Why something may not be used.

    Attributes:
        asset: the one that was revoked.
        stone: its tombstone.
        via: from what was asked about to what was revoked; one name if they are the same.
    """

    asset: AssetId
    stone: Tombstone
    via: tuple[str, ...]

    @property
    def shown(self) -> str:
        """``character/zhangsan was revoked on 2026-11-22 by alice: ...``."""
        which = f" ({', '.join(self.stone.versions)})" if self.stone.versions else ""
        stone = self.stone
        return f"{self.asset}{which} was revoked on {stone.on} by {stone.by}: {stone.reason}"

    @property
    def sentence(self) -> str:
        """The same, with the way to it."""
        way = f" ({' <- '.join(self.via)})" if len(self.via) > 1 else ""
        return self.shown + way

    @property
    def error(self) -> LoraregError:
        """The refusal."""
        name, *others = self.via
        lifted = f"{self.asset}@{self.stone.versions[0]}" if self.stone.versions else self.asset
        return LoraregError(
            f"{name} comes from {others[-1]}, which is revoked" if others else f"{name} is revoked",
            why=self.sentence,
            fix="use something else; an owner can lift it: "
            f"lorareg revoke {lifted} --undo --reason TEXT",
        )


@dataclass(frozen=True)
class Place:
    """A state of an asset on the way upward.

    Attributes:
        ref: kind/name, kind/name@v1.2.0, or what a lock calls a file.
        digests: of its weights.
        via: how it was reached.
    """

    ref: str
    digests: frozenset[str]
    via: tuple[str, ...]

    def is_under(self, owner: AssetId, stone: Tombstone) -> bool:
        """Whether a tombstone covers it."""
        name, _, version = self.ref.partition("@")
        named = name == str(owner) and (not stone.versions or version in stone.versions)
        return named or not self.digests.isdisjoint(stone.tensors)


def revoked(
    workspace: Workspace,
    asset: AssetId,
    version: str | None = None,
    stones: Stones | None = None,
) -> Revocation | None:
    """Why an asset, or a release of it, may not be used: itself, or what it comes from.

    Args:
        workspace: the registry.
        asset: which.
        version: its release; None is what is checked out.
        stones: what ``standing`` gave, for who asks about many.

    Raises:
        InvalidFileError: a tombstone that cannot be read; then nobody can say.
    """
    stones = standing(workspace) if stones is None else stones
    if not stones:
        return None
    for place in upward(workspace, asset, version):
        for owner, stone in stones:
            if place.is_under(owner, stone):
                return Revocation(owner, stone, place.via)
    return None


def own(workspace: Workspace, asset: AssetId, version: str | None = None) -> Revocation | None:
    """The revocation of an asset or release by its name alone, wherever it comes from."""
    place = Place(f"{asset}@{version}" if version else str(asset), frozenset(), ())
    for stone in load(workspace, asset).revocations:
        if stone.lifted is None and place.is_under(asset, stone):
            return Revocation(asset, stone, (place.ref,))
    return None


def refuse(workspace: Workspace, asset: AssetId, version: str | None = None) -> None:
    """Refuse what is revoked.

    Raises:
        LoraregError: it is, or what it comes from is; with the reason and the date.
    """
    if found := revoked(workspace, asset, version):
        raise found.error


def standing(workspace: Workspace) -> Stones:
    """Every revocation of the registry that was not lifted; a stat an asset where there is none."""
    return [
        (asset, stone)
        for asset in marks.marked(workspace)
        for stone in load(workspace, asset).revocations
        if stone.lifted is None
    ]


def load(workspace: Workspace, asset: AssetId) -> Tombstones:
    """The tombstones of an asset, lifted ones too.

    Raises:
        InvalidFileError: the file is broken, or another asset's.
    """
    return of_folder(workspace.folder(asset))


def of_folder(folder: AssetFolder) -> Tombstones:
    """The tombstones in the folder of an asset; raises as ``load``."""
    asset, path = folder.id, folder.revoked
    name = f"manifests/{asset}/{FILE}"
    refuse_elsewhere(path)  # what cannot be read is not taken for no tombstone
    if not path.is_file():
        return Tombstones(asset=str(asset))
    restore = f"restore it: git checkout -- {name}"
    try:
        document = jsontext.parse(read_own(path, max_bytes=MAX_BYTES))
    except ValueError as error:
        raise InvalidFileError(f"{name} is not JSON", why=str(error), fix=restore) from error
    found = check(Tombstones, document, name, fix=restore)
    if found.asset != str(asset):
        raise InvalidFileError(f"{name} is that of {found.asset}", fix=restore)
    return found


def save(workspace: Workspace, found: Tombstones) -> None:
    """Write the tombstones of an asset."""
    lock.save(workspace.folder(AssetId.parse(found.asset)).revoked, found)


def upward(workspace: Workspace, asset: AssetId, version: str | None = None) -> Iterator[Place]:
    """An asset's state, then everything its weights come from, as far as the locks tell."""
    first = f"{asset}@{version}" if version else str(asset)
    start: tuple[str, ...] = (first,)
    waiting = [(start, _lock(workspace, first, None))]
    seen = set()
    while waiting:
        via, known = waiting.pop(0)
        yield Place(via[-1], digests(known), via)
        for ref, tensors, commit in _sources(known):
            if (ref, tensors) in seen:
                continue
            seen.add((ref, tensors))
            way = (*via, ref)
            yield Place(ref, frozenset({tensors}), way)
            if "/" in ref and (behind := _lock(workspace, ref, tensors, commit)):
                waiting.append((way, behind))


def digests(known: Lock | RecipeLock | None) -> frozenset[str]:
    """Of its weights; also of the composition that a recipe is, of the file that was imported."""
    if known is None:
        return frozenset()
    found = {out.tensors for out in known.outputs.values() if out.tensors}
    if isinstance(known, ImportedLock):
        found.add(known.inputs.origin.sha256)
    if isinstance(known, RecipeLock):
        found.add(known.fingerprint)
    return frozenset(found)


def _sources(known: Lock | RecipeLock | None) -> list[tuple[str, str, str | None]]:
    """(ref, tensor digest, commit) of what weights were made from."""
    if isinstance(known, RecipeLock):
        return [(member.ref, member.tensors, member.commit) for member in known.members]
    if not isinstance(known, TrainedLock) or known.inputs.parent is None:
        return []
    commits = {member.tensors: member.commit for member in known.parents}
    parent = known.inputs.parent
    return [(parent.ref, parent.tensors, commits.get(parent.tensors))]


def _lock(
    workspace: Workspace, ref: str, tensors: str | None, commit: str | None = None
) -> Lock | RecipeLock | None:
    """The lock of a state: of a release, of what is checked out, or of the commit that was used."""
    name, _, version = ref.partition("@")
    with suppress(LoraregError):
        asset = AssetId.parse(name)
        places: Sequence[str | None] = [f"refs/tags/{ref}"] if version else [None, commit]
        for revision in dict.fromkeys(places):
            found = _lock_at(workspace, asset, revision)
            if found and (tensors is None or tensors in digests(found)):
                return found
            if tensors is None:
                return None
    return None


def _lock_at(
    workspace: Workspace, asset: AssetId, revision: str | None
) -> Lock | RecipeLock | None:
    with suppress(NotFoundError):
        if revision:
            return lock_at(workspace, asset, revision)
        path = workspace.folder(asset).lock
        return lock.load(path) if path.is_file() else None
    return None
