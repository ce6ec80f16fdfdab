"""How every asset stands, fast: what was found before holds while none of its files changed.

A remembered state is taken only if the manifest, the lock, the index, the weights, the data, the
base and what a parent or member is taken from are as they were when it was found, as far as a stat
of each file tells (``registry.stamp``). Nothing is read or parsed then.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lorareg import __version__
from lorareg.errors import LoraregError
from lorareg.registry import stamp
from lorareg.registry.git import reachable
from lorareg.registry.ids import RECIPE, AssetId
from lorareg.registry.memory import Memory
from lorareg.registry.stamp import Stamp
from lorareg.registry.workspace import Workspace

FORMAT = f"1 {__version__}"  # raised when a state would be found otherwise
OWN = ("manifest.yaml", "lock.json", "dataset.json")
AT_A_TIME = 500  # states that are computed before they are written down


@dataclass(frozen=True)
class Found:
    """The state of an asset, as ``changes.Status`` has it."""

    asset: AssetId
    state: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Watch:
    """What a state depends on.

    Attributes:
        names: files and folders, relative to the registry's top.
        base: model, revision, config and task of the base; empty of a recipe.
        tags: whether it depends on where git's tags are.
    """

    names: tuple[str, ...]
    base: tuple[str | None, ...] = ()
    tags: bool = False


@dataclass(frozen=True)
class States:
    """Looks at the assets of one registry, and remembers what it saw."""

    workspace: Workspace
    _bases: dict[tuple[str | None, ...], str] = field(default_factory=dict)

    def of(self, assets: Sequence[AssetId]) -> Iterator[Found]:
        """The state of each of them, in their order."""
        known = self._memory.recall([str(asset) for asset in assets])
        learned: dict[str, str] = {}
        for asset in assets:
            before = _parsed(known.get(str(asset)))
            if before and self._stamp(_watch(before)).text == before["stamp"]:
                yield Found(asset, before["state"], tuple(before["reasons"]))
                continue
            found, kept = self._look(asset)
            yield found
            if kept:
                learned[str(asset)] = kept
            if len(learned) == AT_A_TIME:
                self._memory.remember(learned)
                learned = {}
        self._memory.remember(learned)

    @property
    def _memory(self) -> Memory:
        return Memory(self.workspace.cache / "states.sqlite", "states", "asset", "state")

    def _look(self, asset: AssetId) -> tuple[Found, str | None]:
        """The state, and what to remember of it: nothing if files change meanwhile, or just did."""
        from lorareg.trainers import changes

        watch = self._dependencies(asset)
        before = self._stamp(watch) if watch else None
        status = changes.status(self.workspace, asset)
        found = Found(asset, status.state, status.reasons)
        if watch is None or before is None or status.state == "invalid" or not before.is_settled:
            return found, None
        if self._stamp(watch) != before:
            return found, None
        document = {
            "format": FORMAT,
            "names": watch.names,
            "base": watch.base,
            "tags": watch.tags,
            "stamp": before.text,
            "state": found.state,
            "reasons": found.reasons,
        }
        return found, json.dumps(document, ensure_ascii=False)

    def _stamp(self, watch: Watch) -> Stamp:
        files = stamp.of(str(self.workspace.root), watch.names)
        text = f"{files.text} {self._base(watch.base)} {self._tags if watch.tags else ''}"
        return Stamp(text, files.changed)

    def _base(self, wanted: tuple[str | None, ...]) -> str:
        """The digest of a base as it is on this disk, or why there is none."""
        if wanted and wanted not in self._bases:
            self._bases[wanted] = self._base_now(*wanted)
        return self._bases.get(wanted, "")

    def _base_now(
        self, model: str | None, revision: str | None, config: str | None, task: str | None
    ) -> str:
        from lorareg.registry.bases import base
        from lorareg.registry.manifest import Base

        try:
            named = Base.model_validate({"model": model, "revision": revision, "config": config})
            place = self.workspace.root
            found = base.resolve(named, task or "", place, self.workspace.digests, fetch=False)
        except LoraregError as error:
            return error.what
        return found.digest

    @cached_property
    def _tags(self) -> str:
        return reachable.tag_state(self.workspace.root)

    def _dependencies(self, asset: AssetId) -> Watch | None:
        """What the state of an asset depends on; None if that is not known."""
        try:
            if asset.kind == RECIPE:
                return self._of_recipe(asset, ())
            return self._of_adapter(asset)
        except LoraregError:
            return None

    def _of_adapter(self, asset: AssetId) -> Watch:
        manifest = self.workspace.load_manifest(asset)
        own = (manifest.base.model, manifest.base.revision, manifest.base.config, manifest.task)
        names = [*self._own(asset), *_data(manifest.data_paths)]
        tags, above = False, manifest.parent
        seen = {str(asset)}
        while above and above not in seen:
            seen.add(above)
            name, _, version = above.partition("@")
            tags = tags or bool(version)
            names += [f"manifests/{name}/manifest.yaml", f"manifests/{name}/lock.json"]
            there = AssetId.parse(name)
            is_here = not version and self.workspace.folder(there).manifest.is_file()
            above = self.workspace.load_manifest(there).parent if is_here else None
        return Watch(tuple(names), own, tags)

    def _of_recipe(self, asset: AssetId, above: tuple[AssetId, ...]) -> Watch | None:
        from lorareg.registry import recipe

        names, tags = self._own(asset), False
        for part in recipe.load(self.workspace.folder(asset).manifest, asset).parts:
            name, _, version = part.ref.partition("@")
            if "/" not in name:
                return None  # which asset that is depends on all the others
            each = AssetId.parse(name)
            tags = tags or bool(version)
            names += [f"manifests/{name}/manifest.yaml", f"manifests/{name}/lock.json"]
            if each.kind == RECIPE and each not in above and not version:
                inner = self._of_recipe(each, (*above, asset))
                if inner is None:
                    return None
                names += inner.names
                tags = tags or inner.tags
        return Watch(tuple(names), (), tags)

    def _own(self, asset: AssetId) -> list[str]:
        """Files of the asset itself, with the weights that its lock promises."""
        from lorareg.registry import lock

        path = self.workspace.folder(asset).lock
        outputs = lock.load(path).outputs if path.is_file() else {}
        weights = [f"weights/{name}" for name in outputs]
        return [f"manifests/{asset}/{name}" for name in (*OWN, *weights)]


def _data(paths: Sequence[str]) -> list[str]:
    return [name for path in paths for name in (path, f"{path}.dvc")]


def _parsed(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        document: dict[str, Any] = json.loads(text)
    except ValueError:
        return None
    return document if document.get("format") == FORMAT else None


def _watch(before: dict[str, Any]) -> Watch:
    return Watch(tuple(before["names"]), tuple(before["base"]), before["tags"])
