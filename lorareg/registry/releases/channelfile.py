"""The text of ``channels.yaml`` after a change: what did not change stays, comments too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lorareg.registry import yamlfile
from lorareg.registry.ids import AssetId
from lorareg.registry.releases import channels
from lorareg.registry.releases.channels import Channel, Channels

HEAD = "schema: lorareg/1\n"


def edited(text: str | None, after: Channels, file: Path, asset: AssetId) -> str:
    """The text that says what ``after`` says.

    Args:
        text: as it is; None where there is no file yet.
        after: what the channels are to be.
        file: for errors.
        asset: whose channels.

    Raises:
        InvalidFileError: the text is not valid, or the channels contradict each other.
    """
    text = HEAD if text is None else text
    document = yamlfile.parse(text, file)
    before = channels.check_document(document, asset)
    for name in before.table.keys() - after.table.keys():
        text = _without(text, name, file)
    changes: dict[str, Any] = {}
    for name, channel in after.table.items():
        if channel != before.table.get(name):
            changes |= _changes(name, document.get(name), before.table.get(name), channel)
    if changes:
        text = yamlfile.edited(text, changes, file)
    channels.parse(text, file, asset)
    return text


def _changes(name: str, here: Any, before: Channel | None, after: Channel) -> dict[str, Any]:
    """Dotted key -> value: key by key where there is a block of which nothing has to go."""
    wanted = after.document()
    if not isinstance(here, dict) or not isinstance(wanted, dict):
        return {name: wanted}
    if any(getattr(before, key) != getattr(after, key) for key in here.keys() - wanted.keys()):
        return {name: wanted}
    return {f"{name}.{key}": value for key, value in wanted.items() if here.get(key) != value}


def _without(text: str, name: str, file: Path) -> str:
    """The text without the lines of a channel; comments that stand between channels stay."""
    lines = text.splitlines(keepends=True)
    key = re.compile(rf"""(['"]?){re.escape(name)}\1\s*:(\s|$)""")
    starts = [number for number, line in enumerate(lines) if key.match(line)]
    if len(starts) != 1:  # the whole file in one pair of braces

        def remove(document: Any) -> None:
            del document[name]

        return yamlfile.reworked(text, remove, file)
    (start,) = starts
    end = next(
        (n for n in range(start + 1, len(lines)) if re.match(r"[^\s#]", lines[n])), len(lines)
    )
    while end > start + 1 and re.match(r"#|\s*$", lines[end - 1]):
        end -= 1
    return "".join(lines[:start] + lines[end:])
