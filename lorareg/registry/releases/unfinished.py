"""A move of a channel that was written and never committed is taken back, not taken twice.

``rollout step`` and ``rollback`` start from where a channel is. After a kill between the file and
its commit the same command again must start from where it started the first time; what somebody
edited by hand is kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lorareg.errors import LoraregError
from lorareg.registry import digest, jsontext
from lorareg.registry.files import read_utf8, write_atomically
from lorareg.registry.ids import AssetId
from lorareg.registry.releases import channels
from lorareg.registry.releases.channels import Channels
from lorareg.registry.workspace import Workspace
from lorareg.registry.yamlfile import MAX_BYTES


def before(workspace: Workspace, asset: AssetId) -> str | None:
    """The text of channels.yaml that a move starts from; None: there is no such file.

    Raises:
        InvalidFileError: it is no text.
    """
    file = workspace.folder(asset).channels
    now = read_utf8(file, max_bytes=MAX_BYTES) if file.is_file() else None
    note = _note(workspace, asset)
    if now is None or not note.is_file() or not workspace.history.is_dirty([file]):
        return now
    try:
        left = jsontext.parse(read_utf8(note, max_bytes=8 * MAX_BYTES))
    except ValueError:
        return now
    is_ours = isinstance(left, dict) and left.get("written") == digest.of_bytes(now.encode())
    text: str | None = left.get("before") if is_ours else now
    return text


def load(workspace: Workspace, asset: AssetId) -> Channels:
    """The channels that a move starts from. Raises as ``channels.load``."""
    text = before(workspace, asset)
    return channels.parse(text, workspace.folder(asset).channels, asset) if text else Channels()


@contextmanager
def written(workspace: Workspace, asset: AssetId, texts: tuple[str | None, str]) -> Iterator[None]:
    """Write channels.yaml for a block that commits it; a refusal there leaves it as it was.

    Args:
        workspace: the registry.
        asset: whose channels.
        texts: before and after.
    """
    file, note = workspace.folder(asset).channels, _note(workspace, asset)
    text, new = texts
    if not file.is_file() or read_utf8(file, max_bytes=MAX_BYTES) != new:
        left = {"before": text, "written": digest.of_bytes(new.encode())}
        write_atomically(note, json.dumps(left))
        write_atomically(file, new)
    try:
        yield
    except LoraregError:
        if text is None:
            file.unlink(missing_ok=True)
        else:
            write_atomically(file, text)
        raise
    finally:
        note.unlink(missing_ok=True)


def _note(workspace: Workspace, asset: AssetId) -> Path:
    return workspace.scratch / "moving" / f"{asset.kind}-{asset.name}.json"
