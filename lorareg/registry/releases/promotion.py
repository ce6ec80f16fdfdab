"""Pointing a channel to a release, at once or to a share of subjects first."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from lorareg.errors import LoraregError, NotFoundError
from lorareg.registry import versions
from lorareg.registry.access import revocation
from lorareg.registry.ids import AssetId
from lorareg.registry.releases import ledger, moving
from lorareg.registry.releases.channels import STABLE, Channel, Channels, Guard
from lorareg.registry.releases.moving import Move
from lorareg.registry.workspace import Workspace


@dataclass(frozen=True)
class Wish:
    """What is asked of a gray release; None leaves it as it is."""

    share: int | None = None
    allow: tuple[str, ...] | None = None
    guards: tuple[Guard, ...] | None = None


def promote(
    workspace: Workspace,
    release: tuple[AssetId, str],
    channel: str,
    wish: Wish | None = None,
    *,
    dry_run: bool = False,
) -> Move:
    """Point a channel to a release.

    A version that is new to a channel starts with the share that is asked for, else with none, and
    with a new salt, so that not always the same subjects are the first; the allow-list, the guards
    and the steps stay.

    Args:
        workspace: the registry.
        release: asset and version.
        channel: any name; stable is what everybody gets.
        wish: what is asked of a gray release.
        dry_run: say what would move.

    Raises:
        NotFoundError: a release that is not here.
        IntegrityError: a tag of that name that nobody who may has released.
        LoraregError: it was revoked; what was asked for contradicts itself; somebody who may not.
    """
    asset, version = release
    wanted = wish or Wish()

    def change(before: Channels) -> Move:
        _refuse_strange(workspace, asset, version)
        revocation.refuse(workspace, asset, version)
        known = before.table.get(channel)
        if channel == STABLE:
            _refuse_for_stable(wanted)
            return Move(asset, channel, known, Channel(version=version))
        _refuse_overlap(asset, before, channel, wanted)
        return Move(asset, channel, known, _wished(known, version, wanted))

    return moving.apply(workspace, asset, change, "Promote", dry_run=dry_run)


def new_salt() -> str:
    """Decides anew which subjects are the first; a letter in front keeps YAML from a number."""
    return "s" + secrets.token_hex(4)


def _wished(known: Channel | None, version: str, wish: Wish) -> Channel:
    before = known or Channel(version=version)
    if before.version == version:
        share, salt = before.share, before.salt
    else:
        share, salt = 0, None
    if wish.share is not None:
        share = wish.share
    return before.model_copy(
        update={
            "version": version,
            "share": share,
            "allow": before.allow if wish.allow is None else wish.allow,
            "salt": salt or (new_salt() if share else None),
            "guards": before.guards if wish.guards is None else wish.guards,
        }
    )


def _refuse_strange(workspace: Workspace, asset: AssetId, version: str) -> None:
    known = versions.releases(workspace, asset)
    if version not in known:
        raise NotFoundError(
            f"{asset} has no release {version}",
            why="there are " + (", ".join(known) or "none"),
            fix=f"lorareg release {asset}; or get those of others: git fetch --tags",
        )
    ledger.commit_of(workspace, asset, version)


def _refuse_for_stable(wish: Wish) -> None:
    if wish != Wish():
        raise LoraregError(
            "stable takes no share, allow-list or guard",
            why="it is what everybody gets who gets nothing else",
            fix="roll out gradually in another channel: --channel canary --share 5%",
        )


def _refuse_overlap(asset: AssetId, before: Channels, channel: str, wish: Wish) -> None:
    if STABLE not in before.table and (wish.share or wish.allow):
        raise LoraregError(
            f"{asset} has no stable release that {channel} could take subjects from",
            fix=f"lorareg promote {asset}@v1.0.0 --channel stable",
        )
    rolling = [name for name, each in before.gray() if each.share and name != channel]
    if rolling and wish.share:
        raise LoraregError(
            f"{rolling[0]} of {asset} rolls out already",
            why="two shares of the same subjects would overlap; one rolls out at a time",
            fix=f"finish it: lorareg rollout step {asset} --channel {rolling[0]}; or end it: "
            f"lorareg rollback {asset} --channel {rolling[0]}",
        )
