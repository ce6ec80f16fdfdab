"""A registry as Python sees it: adapters by reference, with weights that are verified."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lorareg.registry import versions
from lorareg.registry.ids import RECIPE, AssetId, Ref
from lorareg.registry.lock import Lock
from lorareg.registry.manifest import ImageManifest, TextManifest
from lorareg.registry.versions import State
from lorareg.registry.workspace import Workspace


@dataclass(frozen=True)
class Adapter:
    """One adapter, as it is checked out or as it was released."""

    workspace: Workspace
    state: State

    @property
    def manifest(self) -> ImageManifest | TextManifest:
        """What people want of it."""
        return self.state.manifest

    @property
    def lock(self) -> Lock:
        """What was trained."""
        return self.state.lock

    @property
    def weights(self) -> Path:
        """The folder with its weights, compared with the lock at this moment.

        Raises:
            NotFoundError: they are not here.
            IntegrityError: they are other bytes than the lock promises.
        """
        return versions.weights(self.workspace, self.state)


@dataclass(frozen=True)
class Registry:
    """All adapters of a registry, by reference."""

    workspace: Workspace

    @classmethod
    def at(cls, path: Path) -> Registry:
        """The registry that a folder lies in."""
        return cls(Workspace.find(path))

    def __getitem__(self, ref: str) -> Adapter:
        """An adapter by ``kind/name``, a unique ``name``, ``@version`` or ``@range``.

        Raises:
            NotFoundError: there is none, or it was not trained.
        """
        return Adapter(self.workspace, versions.find(self.workspace, Ref.parse(ref)))

    def __iter__(self) -> Iterator[str]:
        return map(str, self._trained())

    def __len__(self) -> int:
        return len(self._trained())

    def _trained(self) -> list[AssetId]:
        adapters = (asset for asset in self.workspace.assets() if asset.kind != RECIPE)
        return [asset for asset in adapters if self.workspace.folder(asset).lock.is_file()]
