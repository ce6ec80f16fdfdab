"""How many captions of an adapter's dataset have each tag: what UIs show of a file as its tags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from lorareg.registry import dataset, lock
from lorareg.registry.ids import AssetId
from lorareg.registry.lock import TrainedLock
from lorareg.registry.manifest import ImageManifest
from lorareg.registry.workspace import Workspace
from lorareg.trainers.data.records import read_pictures


def of_asset(workspace: Workspace, asset: AssetId) -> Mapping[str, Mapping[str, int]]:
    """Name of the dataset's folder -> tag -> number of captions.

    Of a dataset that is not on this disk, the terms that ``dataset.json`` remembers.
    """
    manifest, known = workspace.load_manifest(asset), workspace.load_lock(asset)
    if not isinstance(manifest, ImageManifest) or not isinstance(known, TrainedLock):
        return {}
    folder = workspace.dataset(manifest)
    if folder.exists():
        listing = dataset.scan(folder, workspace.digests)
        captions = [record.caption for record in read_pictures(folder, manifest, listing)]
        return {folder.name: _counted(captions)}
    index = workspace.folder(asset).dataset
    if not index.is_file():
        return {}
    terms = lock.load_index(index, known.inputs).statistics.get("top_terms", [])
    return {folder.name: {str(term): int(count) for term, count in terms}}


def _counted(captions: list[str]) -> dict[str, int]:
    """Each caption's tags once, as kohya's scripts split them: at commas, in lower case."""
    counts: Counter[str] = Counter()
    for caption in captions:
        counts.update({tag for part in caption.split(",") if (tag := part.strip().lower())})
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
