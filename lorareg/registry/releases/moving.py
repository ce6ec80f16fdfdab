"""One move of a channel: an edit of ``channels.yaml`` and a commit that says what moved.

Two people who move the same channel conflict in git, as they should; two processes in one checkout
wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from lorareg.errors import LoraregError
from lorareg.registry.access import policy, signatures
from lorareg.registry.ids import AssetId
from lorareg.registry.releases import channelfile, channels, unfinished
from lorareg.registry.releases.channels import STABLE, Channel, Channels, percent
from lorareg.registry.workspace import Workspace


@dataclass(frozen=True)
class Move:
    """One channel, moved or to be moved.

    Attributes:
        before: where it pointed; None if it was not there.
        after: where it points; None if it is gone.
        notes: what else there is to know, a sentence each.
        commit: that says so; None if there was nothing to change, or only to show.
    """

    asset: AssetId
    channel: str
    before: Channel | None
    after: Channel | None
    notes: tuple[str, ...] = ()
    commit: str | None = None

    @property
    def shown(self) -> str:
        """``canary v1.5.0 at 5% -> v1.5.0 at 25%``."""
        return f"{self.channel} {shown(self.before)} -> {shown(self.after)}"

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "asset": str(self.asset),
            "channel": self.channel,
            "before": self.before.document() if self.before else None,
            "after": self.after.document() if self.after else None,
            "notes": list(self.notes),
            "commit": self.commit,
        }


def shown(channel: Channel | None) -> str:
    """A pointer in a few words."""
    if channel is None:
        return "nothing"
    return channel.version + (f" at {percent(channel.share)}" if channel.share else "")


def apply(
    workspace: Workspace,
    asset: AssetId,
    change: Callable[[Channels], Move],
    verb: str,
    *,
    dry_run: bool = False,
) -> Move:
    """Change a channel and commit that, while no other lorareg writes here.

    A release that becomes stable ends the gray release that brought it there.

    Args:
        workspace: the registry.
        asset: whose channel.
        change: is given the channels as they are, and says what is to move.
        verb: of the commit's message.
        dry_run: say it and leave everything as it is.

    Raises:
        LoraregError: somebody who may not; then everything is as before.
    """
    with workspace.history.alone():
        file = workspace.folder(asset).channels
        text = unfinished.before(workspace, asset)
        before = channels.parse(text, file, asset) if text is not None else Channels()
        move = change(before)
        after = before.changed(move.channel, move.after)
        ended = _ended(after, move)
        for name in ended:
            after = after.changed(name, None)
        move = replace(move, notes=(*move.notes, *_notes(before, after, move, ended)))
        new = channelfile.edited(text, after, file, asset)
        if dry_run:
            return move
        message = "\n\n".join([f"{verb} {asset}: {move.shown}", *move.notes])
        return replace(move, commit=_commit(workspace, asset, (text, new), message))


def _ended(after: Channels, move: Move) -> list[str]:
    """Gray releases of the version that stable points to now: everybody has it."""
    if move.channel != STABLE or move.after is None:
        return []
    return [name for name, each in after.gray() if each.version == move.after.version]


def _notes(before: Channels, after: Channels, move: Move, ended: list[str]) -> list[str]:
    """What stands beside a move."""
    found = [f"channel {name} brought it there and is removed: everybody has it" for name in ended]
    if move.channel == STABLE:
        found += [
            f"{name} {each.version} still takes {percent(each.share)} of stable's subjects"
            for name, each in after.gray()
            if each.share
        ]
    return found if before != after else [*found, f"{move.channel} points there already"]


def _commit(
    workspace: Workspace, asset: AssetId, texts: tuple[str | None, str], message: str
) -> str | None:
    """Write the file and commit it alone; what is refused leaves it as it was."""
    is_governed = policy.load(workspace) is not None
    if is_governed:
        _refuse_unfinished(workspace, asset)
    with unfinished.written(workspace, asset, texts):
        if is_governed:
            return signatures.commit(workspace, [asset], message)
        return workspace.history.commit([workspace.folder(asset).channels], message)


def _refuse_unfinished(workspace: Workspace, asset: AssetId) -> None:
    """Who signs a move signs the whole folder: nothing else may be in it by accident."""
    folder = workspace.folder(asset)
    own = {file.relative_to(workspace.root) for file in (folder.channels, folder.signature)}
    others = [str(path) for path in workspace.history.changed([folder.path]) if path not in own]
    if others:
        raise LoraregError(
            f"{asset} has changes that are not committed",
            why=f"moving a channel signs its whole folder: {', '.join(others)}",
            fix=f"commit them: lorareg push {asset}; or put them away: git stash -- "
            f"manifests/{asset}",
        )
