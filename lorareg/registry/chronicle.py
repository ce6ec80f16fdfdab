"""The history of one asset: each commit of its folder, and what it meant.

Files are read as they are, not by the schema of today: what was valid once stays readable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lorareg.errors import LoraregError
from lorareg.registry import jsontext, yamlfile
from lorareg.registry.git import blobs as gitblobs
from lorareg.registry.git import log, trail
from lorareg.registry.git.log import Entry
from lorareg.registry.ids import AssetId
from lorareg.registry.releases import rules
from lorareg.registry.workspace import Workspace

CARD = ("README.md", "preview.png", "dataset.png")
ATTESTATIONS = "attestations/"
SHORT = 38  # characters of a digest: its algorithm and the beginning

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Event:
    """One commit of an asset's folder.

    Attributes:
        by: who signed the state, as ``signature.json`` says; ``lorareg verify`` checks it.
        tags: releases on this commit.
        changes: a line each.
    """

    commit: str
    author: str
    date: str
    subject: str
    by: str | None
    tags: tuple[str, ...]
    changes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def events(workspace: Workspace, asset: AssetId, limit: int | None = None) -> list[Event]:
    """What happened to an asset, the newest first, in the order of the commits."""
    root = workspace.root
    folder = workspace.folder(asset).path.relative_to(root).as_posix()
    if workspace.history.head() is None:
        return []
    found = log.entries(root, folder, limit)
    tags = log.tags(root, f"{asset}@*")
    lines = [(each.commit, *([each.parent] if each.parent else [])) for each in found]
    changed = [step.changes[0] for step in trail.steps(root, lines, folder)]
    names = [
        f"{commit}:{path}"
        for entry, paths in zip(found, changed, strict=True)
        for path in paths
        for commit in (entry.commit, entry.parent)
        if commit and path.endswith((".json", ".yaml", ".dvc"))
    ]
    blobs = gitblobs.read(root, names)
    return [
        _event(entry, folder, paths, blobs, tuple(tags.get(entry.commit, ())))
        for entry, paths in zip(found, changed, strict=True)
    ]


def _event(
    entry: Entry,
    folder: str,
    paths: Mapping[str, str | None],
    blobs: Mapping[str, bytes],
    tags: tuple[str, ...],
) -> Event:
    states = {
        path.removeprefix(f"{folder}/"): (
            _read(path, blobs.get(f"{entry.parent}:{path}")),
            _read(path, blobs.get(f"{entry.commit}:{path}")),
        )
        for path in sorted(paths)
    }
    signed = states.get("signature.json", ({}, {}))[1].get("by")
    changes = tuple(line for name, pair in states.items() for line in _lines(name, *pair))
    if not changes and (shown := [name for name in states if name in CARD]):
        changes = (f"card: {', '.join(shown)}",)
    by = str(signed) if signed else None
    return Event(entry.commit, entry.author, entry.date, entry.subject, by, tags, changes)


def _read(path: str, data: bytes | None) -> Document:
    """The content of a file; an empty one where it is not there or cannot be read."""
    text = (data or b"").decode("utf-8", "replace")
    try:
        found = jsontext.parse(text) if path.endswith(".json") else yamlfile.parse(text, Path(path))
    except (ValueError, LoraregError):
        return {}
    return found if isinstance(found, Mapping) else {}


def _lines(name: str, old: Document, new: Document) -> Iterator[str]:
    if name.startswith(ATTESTATIONS):
        who = name.removeprefix(ATTESTATIONS).removesuffix(".json")
        yield f"attested by {who}: {rules.said(new.get('verdict'))}" if new else f"{name} went"
    elif name in TOLD:
        yield from TOLD[name](old, new)


def _manifest(old: Document, new: Document) -> Iterator[str]:
    if not old or not new:
        yield "manifest: new" if new else "manifest: gone"
        return
    for key, before, after in rules.differences(old, new):
        yield f"{key}: {rules.said(before)} -> {rules.said(after)}"


def _lock(old: Document, new: Document) -> Iterator[str]:
    if not new:
        yield "lock: gone"
        return
    before, after = (str(each.get("fingerprint", ""))[:SHORT] for each in (old, new))
    if not old:
        yield f"weights: {after}"
    elif before != after:
        yield f"weights: {before} -> {after}"
    elif old.get("outputs") != new.get("outputs"):
        yield f"weights: others of {after}"
    else:
        yield f"weights: made again, the same {after}"


def _channels(old: Document, new: Document) -> Iterator[str]:
    for name in sorted((old.keys() | new.keys()) - {"schema"}):
        before, after = old.get(name), new.get(name)
        if before != after:
            yield f"channel {name}: {_pointer(before)} -> {_pointer(after)}"


def _pointer(channel: Any) -> str:
    if isinstance(channel, Mapping):
        share = channel.get("share")
        return f"{channel.get('version')}{f' for {rules.said(share)}' if share else ''}"
    return rules.said(channel)


def _releases(old: Document, new: Document) -> Iterator[str]:
    before, after = (
        {e.get("version"): e for e in _listed(each, "releases")} for each in (old, new)
    )
    for version, entry in after.items():
        if before.get(version) != entry:
            again = " again" if version in before else ""
            yield f"released {version}{again} ({entry.get('level')})"
    for version in before.keys() - after.keys():
        yield f"release {version} went from the ledger"


def _grants(old: Document, new: Document) -> Iterator[str]:
    before, after = _listed(old, "grants"), _listed(new, "grants")
    for entry in after:
        if entry not in before:
            yield f"granted to {entry.get('who')}: {rules.said(entry.get('purpose'))}"
    for entry in before:
        if entry not in after:
            yield f"grant of {entry.get('who')} went: {rules.said(entry.get('purpose'))}"


def _revoked(old: Document, new: Document) -> Iterator[str]:
    before, after = _listed(old, "revocations"), _listed(new, "revocations")
    for entry in after:
        if entry not in before:
            lifted = entry.get("lifted")
            what = "revocation lifted" if lifted else "revoked"
            reason = lifted.get("reason") if isinstance(lifted, Mapping) else entry.get("reason")
            yield f"{what}: {rules.said(reason)}"


def _listed(document: Document, key: str) -> list[Document]:
    found = document.get(key)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


TOLD: Mapping[str, Callable[[Document, Document], Iterator[str]]] = {
    "manifest.yaml": _manifest,
    "lock.json": _lock,
    "channels.yaml": _channels,
    "releases.json": _releases,
    "grants.yaml": _grants,
    "revoked.json": _revoked,
}
