"""Where a channel pointed before: the history of its file as a stack, never by a clock.

Going back to a pointer takes everything off the stack that came after it. So a second rollback goes
one further back, not forth again; and so does one after a promotion that went back by hand.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from lorareg.errors import LoraregError
from lorareg.registry import versions
from lorareg.registry.access import revocation
from lorareg.registry.git import blobs as gitblobs
from lorareg.registry.git.command import call
from lorareg.registry.ids import AssetId
from lorareg.registry.releases import channels, moving
from lorareg.registry.releases.channels import STABLE, Channel, Channels, found_in
from lorareg.registry.releases.moving import Move
from lorareg.registry.workspace import Workspace


def rollback(workspace: Workspace, asset: AssetId, channel: str, *, dry_run: bool = False) -> Move:
    """Point a channel to where it pointed before; a gray release that was the first one is removed.

    Raises:
        LoraregError: there is nothing before; somebody who may not.
    """
    return moving.apply(
        workspace,
        asset,
        lambda now: back(workspace, asset, channel, now),
        "Roll back",
        dry_run=dry_run,
    )


def back(
    workspace: Workspace, asset: AssetId, channel: str, now: Channels, because: str = ""
) -> Move:
    """The move that takes a channel back; a release that cannot be served is passed over.

    Raises:
        LoraregError: there is nothing before.
    """
    here = found_in(now, channel, asset)
    history = stack(state.table.get(channel) for state in states(workspace, asset, now))
    notes = [because] if because else []
    for candidate in reversed(history[:-1]):
        why = _unusable(workspace, asset, channel, now, candidate)
        if why is None:
            return Move(asset, channel, here, candidate, tuple(notes))
        if candidate:
            notes.append(f"{candidate.version} is passed over: {why}")
    raise LoraregError(
        f"{channel} of {asset} pointed nowhere before {here.version}",
        why="; ".join(notes) or "its history begins there",
        fix=f"name a release: lorareg promote {asset}@v1.0.0 --channel {channel}",
    )


def stack(states: Iterable[Channel | None]) -> list[Channel | None]:
    """What a channel pointed to, oldest first, the last one as it is now; None: it was not there.

    A state with the version of an earlier one is a return to it; what it is like is then what it
    was like last.

    >>> v1, v2 = Channel(version="v1.0.0"), Channel(version="v2.0.0")
    >>> [each and each.version for each in stack([v1, v2, v1])]
    ['v1.0.0']
    """
    found: list[Channel | None] = []
    for state in states:
        known = [each.version if each else None for each in found]
        version = state.version if state else None
        if version in known:
            del found[known.index(version) :]
        found.append(state)
    return found


def states(workspace: Workspace, asset: AssetId, now: Channels) -> list[Channels]:
    """The file as every commit of the current branch left it, oldest first, and as it is now.

    A merge counts once, as what it brought; a state that cannot be read is passed over.
    """
    file = workspace.folder(asset).channels
    name = file.relative_to(workspace.root).as_posix()
    listed = call(workspace.root, ["rev-list", "--first-parent", "HEAD", "--", name])
    commits = listed.text.split() if listed.status == 0 else []
    blobs = gitblobs.read(workspace.root, [f"{commit}:{name}" for commit in commits])
    found = [Channels()]
    for commit in reversed(commits):
        data = blobs.get(f"{commit}:{name}")
        if data is None:
            found.append(Channels())
            continue
        with suppress(LoraregError):
            found.append(channels.parse(data.decode("utf-8", "replace"), file, asset))
    return [*found, now]


def _unusable(
    workspace: Workspace, asset: AssetId, channel: str, now: Channels, former: Channel | None
) -> str | None:
    """Why a channel cannot go back to a pointer; None if it can."""
    if former is None:
        return "it was not there" if channel == STABLE else None
    stable = now.table.get(STABLE)
    if channel != STABLE and stable and former.version == stable.version:
        return "stable points to it"
    if former.version not in versions.releases(workspace, asset):
        return "its tag is not here"
    if found := revocation.revoked(workspace, asset, former.version):
        return found.sentence
    return "; ".join(now.changed(channel, former).problems()) or None
