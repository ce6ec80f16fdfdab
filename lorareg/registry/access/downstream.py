"""What comes from an asset: recipes, adapters, releases, exports and Hub repositories.

Every lock of the registry is read, as it is checked out and as it is at every release tag (one git
process for all). What is found is followed on: a child of a child, a recipe of a recipe's merged
file, a file that was exported and imported under another name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lorareg.registry import publication
from lorareg.registry.access import revocation, uses
from lorareg.registry.access.revocation import Tombstone
from lorareg.registry.git import blobs
from lorareg.registry.ids import RECIPE, VERSION, AssetId
from lorareg.registry.workspace import Workspace


@dataclass(frozen=True)
class Export:
    """A file that left the registry, as this clone's log of uses has it."""

    out: str
    time: str
    who: str
    asset: str


@dataclass(frozen=True)
class Downstream:
    """What is covered by a revocation beside the asset itself.

    Attributes:
        recipes: checked out: ``recipe/ink-zhangsan``.
        adapters: trained from it, or imported from a file of it.
        releases: tags, those of the asset itself too.
        exports: written by this clone.
        hub: repositories on the Hub that the manifests of all of these name.
        files: digests of the exported files, by which one that is imported is recognised.
    """

    recipes: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    releases: tuple[str, ...] = ()
    exports: tuple[Export, ...] = ()
    hub: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "exports": [vars(each) for each in self.exports]}


@dataclass(frozen=True)
class Made:
    """One lock, as far as descent goes.

    Attributes:
        ref: ``kind/name`` checked out, ``kind/name@v1.2.0`` at its tag.
        digests: of its weights.
        sources: (ref, digest) of what they were made from.
    """

    ref: str
    digests: frozenset[str]
    sources: tuple[tuple[str, str], ...]

    @property
    def asset(self) -> str:
        """The asset, in whatever state."""
        return self.ref.partition("@")[0]


@dataclass
class _Covered:
    """What is known to be covered, while more is found."""

    owner: str
    versions: frozenset[str]
    digests: set[str]
    refs: set[str] = field(default_factory=set)

    @classmethod
    def by(cls, asset: AssetId, stone: Tombstone) -> _Covered:
        """What a tombstone says itself."""
        return cls(str(asset), frozenset(stone.versions), set(stone.tensors))

    def takes(self, made: Made) -> bool:
        """Whether a lock is covered; then what comes from it is, too."""
        if made.ref in self.refs or not (self._names(made.ref) or self._reaches(made)):
            return False
        self.refs.add(made.ref)
        self.digests |= made.digests
        return True

    def holds(self, ref: str, tensors: str | None) -> bool:
        """Whether something of that name, or these weights, is covered."""
        return tensors in self.digests or self._names(ref)

    def _reaches(self, made: Made) -> bool:
        if not made.digests.isdisjoint(self.digests):
            return True
        return any(self.holds(ref, tensors) for ref, tensors in made.sources)

    def _names(self, ref: str) -> bool:
        name, _, version = ref.partition("@")
        return name == self.owner and (not self.versions or version in self.versions)


def downstream(workspace: Workspace, asset: AssetId, stone: Tombstone) -> Downstream:
    """What a tombstone covers beside the asset itself, whether it is set yet or not."""
    locks = [*_checked_out(workspace), *_released(workspace)]
    log = [each for each in uses.entries(workspace) if each.get("use") == "export"]
    written = {number: entry for number, entry in enumerate(log) if entry.get("out")}
    covered = _Covered.by(asset, stone)
    exported: set[int] = set()
    while True:
        more = [made for made in locks if covered.takes(made)]
        new = {n for n, entry in written.items() if n not in exported and _was_of(entry, covered)}
        exported |= new
        covered.digests |= _files(written[number] for number in new)
        if not (more or new):
            break
    here = sorted(ref for ref in covered.refs if "@" not in ref and ref != str(asset))
    named = sorted({ref.partition("@")[0] for ref in covered.refs} | {str(asset)})
    return Downstream(
        recipes=tuple(ref for ref in here if ref.startswith(f"{RECIPE}/")),
        adapters=tuple(ref for ref in here if not ref.startswith(f"{RECIPE}/")),
        releases=tuple(sorted(ref for ref in covered.refs if "@" in ref)),
        exports=tuple(_export(written[number]) for number in sorted(exported)),
        hub=tuple(
            repo for name in named if (repo := publication.repo_of(workspace, AssetId.parse(name)))
        ),
        files=tuple(sorted(_files(written[number] for number in exported))),
    )


def affected(workspace: Workspace) -> dict[str, str]:
    """Checked-out assets that may not be used: asset -> since when, by whom and why."""
    stones = revocation.standing(workspace)
    locks = list(_checked_out(workspace)) if stones else []
    found: dict[str, str] = {}
    for owner, stone in stones:
        covered = _Covered.by(owner, stone)
        while [made for made in locks if covered.takes(made)]:
            continue
        names = covered.refs | ({str(owner)} if not stone.versions else set())
        sentence = revocation.Revocation(owner, stone, (str(owner),)).shown
        found |= {name: sentence for name in names if name not in found}
    return found


def digests_of(workspace: Workspace, asset: AssetId, version: str | None = None) -> set[str]:
    """Tensor digests of a release; without one, of every release and of what is checked out."""
    own = f"{asset}@{version}" if version else None
    locks = [*_checked_out(workspace, [asset]), *_released(workspace, str(asset))]
    found = [made.digests for made in locks if own is None or made.ref == own]
    return {each for digests in found for each in digests}


def _checked_out(workspace: Workspace, assets: Iterable[AssetId] | None = None) -> Iterator[Made]:
    for asset in workspace.assets() if assets is None else assets:
        path = workspace.folder(asset).lock
        if path.is_file() and (made := _made(str(asset), path.read_bytes())):
            yield made


def _released(workspace: Workspace, asset: str = "*") -> Iterator[Made]:
    if workspace.history.head() is None:
        return
    tags = [tag for tag in workspace.history.tags(f"{asset}@v*") if _is_release(tag)]
    places = {f"refs/tags/{tag}:manifests/{tag.partition('@')[0]}/lock.json": tag for tag in tags}
    for place, data in blobs.read(workspace.root, list(places)).items():
        if made := _made(places[place], data):
            yield made


def _is_release(tag: str) -> bool:
    name, _, version = tag.partition("@")
    return name.count("/") == 1 and VERSION.fullmatch(version) is not None


def _made(ref: str, data: bytes) -> Made | None:
    """What a lock says of descent, read but not judged: ``lorareg verify`` judges it."""
    try:
        known = json.loads(data)
        own = {out["tensors"] for out in known["outputs"].values() if out["tensors"]}
        if "members" in known:
            sources = [(each["ref"], each["tensors"]) for each in known["members"]]
            return Made(ref, frozenset({*own, known["fingerprint"]}), tuple(sources))
        inputs = known["inputs"]
        if origin := inputs.get("origin"):
            own.add(origin["sha256"])
        parent = inputs.get("parent")
        return Made(ref, frozenset(own), ((parent["ref"], parent["tensors"]),) if parent else ())
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _was_of(entry: Mapping[str, Any], covered: _Covered) -> bool:
    members = entry.get("members")
    listed = [each for each in members if isinstance(each, Mapping)] if members else []
    return covered.holds(str(entry.get("asset")), None) or any(
        covered.holds(str(each.get("ref")), each.get("tensors")) for each in listed
    )


def _files(entries: Iterable[Mapping[str, Any]]) -> set[str]:
    """Digests of exported files."""
    told = (entry.get(key) for entry in entries for key in ("sha256", "tensors"))
    return {each for each in told if isinstance(each, str)}


def _export(entry: Mapping[str, Any]) -> Export:
    told = (str(entry.get(key) or "") for key in ("out", "time", "who", "asset"))
    return Export(*told)
