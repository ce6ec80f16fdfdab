"""A registry as Python sees it: adapters by reference, with weights that are verified."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lorareg.registry import versions
from lorareg.registry.access import permission, uses
from lorareg.registry.ids import RECIPE, AssetId, Ref
from lorareg.registry.lock import Lock
from lorareg.registry.manifest import ImageManifest, TextManifest
from lorareg.registry.releases.served import Answer, Resolver
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
            LoraregError: they are revoked, expired, or not for who works here.
        """
        state = self.state
        permission.require(self.workspace, state.asset, "generate", version=state.version)
        uses.record(self.workspace, "load", state.ref)
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
        """An adapter by ``kind/name``, a unique ``name``, ``@version``, ``@range`` or ``@channel``.

        Of a channel it is what one gets who names no subject; ``resolve`` knows of gray releases.

        Raises:
            NotFoundError: there is none, or it was not trained.
        """
        return Adapter(self.workspace, versions.find(self.workspace, Ref.parse(ref)))

    def resolve(self, ref: str, subject: str | None = None, groups: Sequence[str] = ()) -> Answer:
        """Which release one gets who asks for ``kind/name@stable``; ``[answer.ref]`` is it.

        Args:
            ref: with a channel.
            subject: who asks: a player's number, a mail address.
            groups: that the subject is in, for allow-lists.

        Raises:
            NotFoundError: there is no such asset, or the release is not here.
            LoraregError: no such channel, or it points to a release that was revoked.
        """
        return self._resolver.resolve(ref, subject, groups)

    @cached_property
    def _resolver(self) -> Resolver:
        return Resolver(self.workspace)

    def __iter__(self) -> Iterator[str]:
        return map(str, self._trained())

    def __len__(self) -> int:
        return len(self._trained())

    def _trained(self) -> list[AssetId]:
        adapters = (asset for asset in self.workspace.assets() if asset.kind != RECIPE)
        return [asset for asset in adapters if self.workspace.folder(asset).lock.is_file()]
