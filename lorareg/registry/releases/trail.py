"""Every state that a ledger has had in the history: found in one walk for all assets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from lorareg.registry.git import trail
from lorareg.registry.ids import AssetId
from lorareg.registry.releases import ledger
from lorareg.registry.releases.ledger import MAX_BYTES, Ledger
from lorareg.registry.workspace import Workspace

LEDGERS = ":(glob)manifests/*/*/releases.json"


@dataclass(frozen=True)
class Trail:
    """What the history of one commit holds; it never changes.

    Attributes:
        head: the commit.
        changes: file -> the commits that changed it, oldest first, each with the blob it became.
    """

    head: str
    changes: Mapping[str, list[tuple[str, str]]]


_walked: WeakKeyDictionary[Workspace, Trail] = WeakKeyDictionary()


def states(workspace: Workspace, asset: AssetId, head: str) -> list[tuple[str, Ledger]]:
    """Each commit up to ``head`` that changed the ledger of an asset, with that ledger."""
    file = workspace.folder(asset).releases.relative_to(workspace.root).as_posix()
    changes = _trail(workspace, head).changes.get(file, [])
    texts = dict(trail.blobs(workspace.root, {blob for _, blob in changes}, MAX_BYTES))
    return [
        (commit, ledger.parse(texts[blob].decode("utf-8", "replace"), asset))
        for commit, blob in changes
        if blob in texts
    ]


def _trail(workspace: Workspace, head: str) -> Trail:
    known = _walked.get(workspace)
    if known is None or known.head != head:
        known = _walked[workspace] = Trail(head, _changes(workspace, head))
    return known


def _changes(workspace: Workspace, head: str) -> dict[str, list[tuple[str, str]]]:
    found = defaultdict[str, list[tuple[str, str]]](list)
    graph = trail.graph(workspace.root, head)
    for step in trail.steps(workspace.root, graph, LEDGERS):
        new = {file: blob for change in step.changes for file, blob in change.items()}
        for file, blob in new.items():
            if blob:
                found[file].append((step.commit, blob))
    return dict(found)
