"""What is served when a channel is asked for: the release, where it is, and its weights.

A server asks for every player. So what cannot change is looked up once (a release), and what can is
read again only when its file changed (channels, tombstones).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorareg.errors import LoraregError
from lorareg.registry import digest, lock
from lorareg.registry.access import authority, revocation
from lorareg.registry.ids import AssetId, Ref
from lorareg.registry.lock import Lock, RecipeLock
from lorareg.registry.releases import channels, resolve
from lorareg.registry.releases.channels import Channels
from lorareg.registry.releases.resolve import Choice
from lorareg.registry.workspace import Workspace

Stamp = tuple[int, int, int] | None
"""Inode, size and time of a file; None where there is none."""


@dataclass(frozen=True)
class Answer:
    """What one who asked for a channel gets.

    Attributes:
        choice: version and channel, why, and the subject's bucket.
        commit: where the release is, 40 hex digits.
        lock: sha256 of its lock.json.
        weights: the folder with its weights, compared with the lock; None if they are not here.
    """

    asset: AssetId
    choice: Choice
    commit: str
    lock: str
    weights: Path | None

    @property
    def ref(self) -> str:
        """``kind/name@v1.2.0``: the release, for everything that takes a reference."""
        return f"{self.asset}@{self.choice.version}"

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "asset": str(self.asset),
            "version": self.choice.version,
            "channel": self.choice.channel,
            "why": self.choice.why,
            "bucket": self.choice.bucket,
            "commit": self.commit,
            "lock": self.lock,
            "weights": str(self.weights) if self.weights else None,
        }


@dataclass(frozen=True)
class _Release:
    """What of a release never changes, and the tombstones that would forbid it."""

    commit: str
    sha256: str
    lock: Lock | RecipeLock
    stones: tuple[Path, ...]
    checked: tuple[Stamp, ...]


@dataclass(frozen=True)
class Resolver:
    """Answers for a registry that is asked often."""

    workspace: Workspace
    _channels: dict[AssetId, tuple[Stamp, Channels]] = field(default_factory=dict, repr=False)
    _releases: dict[tuple[AssetId, str], _Release] = field(default_factory=dict, repr=False)

    def resolve(
        self, ref: Ref | str, subject: str | None = None, groups: Sequence[str] = ()
    ) -> Answer:
        """What a subject gets who asks for ``kind/name@channel``.

        Raises:
            NotFoundError: no such asset, or a release whose tag is not here.
            LoraregError: no such channel, or it points to a release that was revoked; nobody gets
                another one instead, since that would hide it.
        """
        ref = Ref.parse(ref) if isinstance(ref, str) else ref
        asset = self.workspace.find_asset(ref, any_version=True)
        if ref.channel is None:
            raise LoraregError(
                f"{ref} names no channel",
                why="a release is what it is; there is nothing to resolve",
                fix=f"lorareg resolve {asset}@stable",
            )
        found = resolve.choose(asset, self.channels(asset), ref.channel, subject, groups)
        release = self._release(asset, found.version)
        return Answer(asset, found, release.commit, release.sha256, self._weights(asset, release))

    def channels(self, asset: AssetId) -> Channels:
        """The channels of an asset, read again when the file changed."""
        file = self.workspace.folder(asset).channels
        stamp = _stamp(file)
        known = self._channels.get(asset)
        if known is None or known[0] != stamp:
            authority.refuse_unsigned(self.workspace, asset)
            known = (stamp, channels.load(file, asset))
            self._channels[asset] = known
        return known[1]

    def _release(self, asset: AssetId, version: str) -> _Release:
        known = self._releases.get((asset, version))
        if known is None or tuple(map(_stamp, known.stones)) != known.checked:
            known = _read(self.workspace, asset, version)
            self._releases[asset, version] = known
        return known

    def _weights(self, asset: AssetId, release: _Release) -> Path | None:
        if not release.lock.outputs:
            return None
        kept = release.lock.fingerprint.rpartition(":")[2]
        places = (self.workspace.folder(asset).weights, self.workspace.cache / "releases" / kept)
        return next((each for each in places if self.workspace.holds(each, release.lock)), None)


def choose(
    workspace: Workspace,
    asset: AssetId,
    channel: str,
    subject: str | None = None,
    groups: Sequence[str] = (),
) -> Choice:
    """What one who asks for a channel gets; raises as ``Resolver.resolve``."""
    authority.refuse_unsigned(workspace, asset)
    table = channels.load(workspace.folder(asset).channels, asset)
    found = resolve.choose(asset, table, channel, subject, groups)
    revocation.refuse(workspace, asset, found.version)
    return found


def _read(workspace: Workspace, asset: AssetId, version: str) -> _Release:
    """A release out of git, unless it was revoked."""
    tag = f"refs/tags/{asset}@{version}"
    commit = workspace.history.resolve(tag)
    file = workspace.folder(asset).lock
    data = workspace.history.read(file, commit)
    stones = _stones(workspace, asset, version)
    checked = tuple(map(_stamp, stones))
    revocation.refuse(workspace, asset, version)
    parsed = lock.parse(data.decode("utf-8", "replace"), file)
    return _Release(commit, digest.of_bytes(data), parsed, stones, checked)


def _stones(workspace: Workspace, asset: AssetId, version: str) -> tuple[Path, ...]:
    """Where a tombstone of the asset, or of what it comes from, would be."""
    refs = [str(asset), *(place.ref for place in revocation.upward(workspace, asset, version))]
    found: dict[AssetId, None] = {}
    for ref in refs:
        with suppress(LoraregError):  # a lock may name a bare file
            found[AssetId.parse(ref.partition("@")[0])] = None
    return tuple(workspace.folder(each).revoked for each in found)


def _stamp(file: Path) -> Stamp:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
