"""A gray release, step by step: 5 -> 25 -> 100 percent while its guards hold, back if one does not.

A step at 100 percent makes the release stable and removes the channel. Every step is a commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorareg.errors import LoraregError
from lorareg.registry.access import revocation
from lorareg.registry.ids import AssetId
from lorareg.registry.releases import channels, guards, moving, promotion, rollback, unfinished
from lorareg.registry.releases.channels import STABLE, Channel, Channels, found_in, percent
from lorareg.registry.releases.guards import Reading
from lorareg.registry.releases.moving import Move
from lorareg.registry.workspace import Workspace


@dataclass(frozen=True)
class Evidence:
    """What a step is decided by.

    Attributes:
        metrics: what was measured; None if nothing was given.
        command: that must end with status 0; None if none was given.
        seconds: that the command has.
    """

    metrics: Mapping[str, Any] | None = None
    command: str | None = None
    seconds: float = 600.0


@dataclass(frozen=True)
class Step:
    """What a step did.

    Attributes:
        move: what moved, forth or back.
        readings: every guard, with what it was held against.
    """

    move: Move
    readings: tuple[Reading, ...]

    @property
    def holds(self) -> bool:
        """Whether every guard held."""
        return all(reading.holds for reading in self.readings)


def step(
    workspace: Workspace,
    asset: AssetId,
    channel: str,
    evidence: Evidence,
    *,
    dry_run: bool = False,
) -> Step:
    """Take the next step of a rollout if every guard holds; else roll it back.

    Raises:
        LoraregError: nothing rolls out; guards without metrics; the version was revoked; somebody
            who may not; the channel moved meanwhile.
    """
    known = _rolling(workspace, asset, channel)
    readings = _readings(workspace, asset, known, evidence)
    breach = _breach(readings)

    def change(before: Channels) -> Move:
        now = found_in(before, channel, asset)
        _refuse_moved(asset, channel, known, now)
        if breach:
            return rollback.back(workspace, asset, channel, before, breach)
        revocation.refuse(workspace, asset, now.version)
        after = advanced(now)
        if after is not None:
            return Move(asset, channel, now, after)
        return Move(asset, STABLE, before.table.get(STABLE), Channel(version=now.version))

    verb = "Roll back" if breach else "Roll out"
    return Step(moving.apply(workspace, asset, change, verb, dry_run=dry_run), readings)


def advanced(channel: Channel) -> Channel | None:
    """The channel after its next step; None if that makes it stable."""
    share = next((each for each in channel.steps if each > channel.share), None)
    if share is None:
        return None
    salt = channel.salt or promotion.new_salt()
    return channel.model_copy(update={"share": share, "salt": salt})


def status(workspace: Workspace, asset: AssetId) -> list[dict[str, Any]]:
    """Every channel of an asset, stable first, with what its next step would be."""
    table = channels.load(workspace.folder(asset).channels, asset).table
    names = sorted(table, key=lambda name: (name != STABLE, name))
    return [_standing(name, table[name]) for name in names]


def _standing(name: str, channel: Channel) -> dict[str, Any]:
    after = advanced(channel) if name != STABLE else channel
    upcoming = percent(after.share) if after else STABLE
    return {
        "channel": name,
        "version": channel.version,
        "share": percent(channel.share) if name != STABLE else None,
        "allow": list(channel.allow),
        "guards": [str(guard) for guard in channel.guards],
        "next": upcoming if name != STABLE else None,
    }


def _rolling(workspace: Workspace, asset: AssetId, channel: str) -> Channel:
    table = unfinished.load(workspace, asset)
    found = found_in(table, channel, asset)
    if channel == STABLE:
        raise LoraregError(
            "stable does not roll out",
            why="everybody has it",
            fix=f"roll out in another channel: lorareg promote {asset}@v1.0.0 --channel canary "
            "--share 5%",
        )
    return found


def _readings(
    workspace: Workspace, asset: AssetId, known: Channel, evidence: Evidence
) -> tuple[Reading, ...]:
    if known.guards and evidence.metrics is None:
        raise LoraregError(
            f"{asset} {known.version} has guards, and nothing was measured",
            why=", ".join(map(str, known.guards)),
            fix=f"lorareg rollout step {asset} --metrics metrics.json",
        )
    found = guards.judge(known.guards, evidence.metrics or {})
    if evidence.command is not None:
        found.append(guards.run(evidence.command, workspace.root, evidence.seconds))
    return tuple(found)


def _breach(readings: Sequence[Reading]) -> str:
    """The guards that do not hold, in words; empty if all do."""
    failed = (f"{each.guard} does not hold: {each.detail}" for each in readings if not each.holds)
    return "; ".join(failed)


def _refuse_moved(asset: AssetId, channel: str, then: Channel, now: Channel) -> None:
    if then != now:
        raise LoraregError(
            f"{channel} of {asset} moved while its guards were read",
            why=f"from {moving.shown(then)} to {moving.shown(now)}",
            fix=f"look at it: lorareg rollout status {asset}",
        )
