"""All of a registry's remotes: each pointer's bytes go to its own, and come from there."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import ExternalToolError, IntegrityError, LoraregError
from lorareg.registry.digest import DigestCache
from lorareg.registry.dvc import copying, pointer, transfer
from lorareg.registry.dvc.config import Config
from lorareg.registry.dvc.objects import Objects
from lorareg.registry.dvc.pointer import Pointer
from lorareg.registry.dvc.transfer import Moved
from lorareg.registry.sharing.meter import Meter

COUNT = re.compile(r"(\d+) files? (?:pushed|fetched)")


@dataclass(frozen=True)
class Carrier:
    """Carries bytes between the cache and the remotes; ``Store`` is its public face.

    Attributes:
        root: the registry's top.
        config: of DVC, as it is now.
        run: runs a dvc command line.
    """

    root: Path
    config: Config
    run: Callable[..., str]

    @property
    def cache(self) -> Objects:
        """DVC's cache."""
        return Objects(self.config.objects)

    def folder(self, remote: str) -> Objects | None:
        """The objects of a remote that is a folder; None for a service."""
        objects = self.config.remote_objects(remote)
        return None if objects is None else Objects(objects)

    def push(self, pointers: Sequence[Pointer], meter: Meter) -> Moved:
        """Upload what the remotes lack, from the cache, each to its own remote.

        Raises:
            NotFoundError: the bytes are neither in the cache here nor seen to be there.
            IntegrityError: the cache holds other bytes than it says.
            ExternalToolError: the remote is not configured, reachable, writable or large enough.
        """
        objects = size = 0
        groups = self._by_remote(pointers)
        for remote in groups:
            self._require(remote)
        for remote, group in groups.items():
            there = self.folder(remote)
            if there:
                moved = transfer.up(group, self.cache, there, meter)
                objects, size = objects + moved.objects, size + moved.size
                continue
            for tracked in group:
                self.cache.files(tracked)
            self._refuse_damaged(group)
            pushed = transfer.by_dvc("uploading", group, self._dvc("push"), meter)
            objects, size = objects + pushed, size + (transfer.total(group) if pushed else 0)
        return Moved(objects, size, {})

    def missing(self, tracked: Pointer) -> dict[str, int]:
        """What a folder remote lacks of a pointer: md5 -> bytes."""
        there = self.folder(tracked.remote or self.config.default_remote or "")
        return transfer.lacking([tracked], self.cache, there) if there else {}

    def fetch_each(self, pointers: Sequence[Pointer], meter: Meter) -> Moved:
        """Like ``fetch``, but what fails does not stop the others: it is told in the answer."""
        for tracked in pointers:
            if self.cache.has_damaged_listing(tracked):
                self.cache.discard([self.cache.place(tracked.md5)])
        copying.begin(self.cache)
        objects, size, failed = 0, 0, dict[Path, LoraregError]()
        missing = [tracked for tracked in pointers if not self.cache.holds(tracked)]
        for remote, group in self._by_remote(missing).items():
            moved = self._fetch_from(remote, group, meter)
            objects, size = objects + moved.objects, size + moved.size
            failed |= moved.failed
        return Moved(objects, size, failed)

    def _fetch_from(self, remote: str, group: Sequence[Pointer], meter: Meter) -> Moved:
        objects, refusal = 0, None
        try:
            self._require(remote)
            there = self.folder(remote)
            if there:
                return transfer.down(group, self.cache, there, meter)
            objects = transfer.by_dvc("fetching", group, self._dvc("fetch"), meter)
        except LoraregError as error:
            refusal = error
        lost = {each.file: self._why_missing(each, refusal) for each in group}
        size = sum(each.size for each in group if not lost[each.file])
        return Moved(objects, size, {file: why for file, why in lost.items() if why})

    def _why_missing(self, tracked: Pointer, refusal: LoraregError | None) -> LoraregError | None:
        try:
            self.cache.files(tracked)
        except LoraregError as error:
            return refusal or error
        return None

    def _dvc(self, verb: str) -> Callable[[Sequence[Pointer]], int]:
        def run(pointers: Sequence[Pointer]) -> int:
            files = (tracked.file.relative_to(self.root).as_posix() for tracked in pointers)
            count = COUNT.search(self.run(verb, "--", *files))
            return int(count[1]) if count else 0

        return run

    def _by_remote(self, pointers: Sequence[Pointer]) -> dict[str, list[Pointer]]:
        """Pointers by the remote that their bytes are for; each file once."""
        groups: dict[str, list[Pointer]] = {}
        unique = {(each.file, each.md5): each for each in pointers}
        for tracked in unique.values():
            remote = tracked.remote or self.config.default_remote or ""
            groups.setdefault(remote, []).append(tracked)
        return groups

    def _require(self, remote: str) -> None:
        if not remote:
            raise ExternalToolError(
                "there is no place for bytes yet",
                why="DVC has no default remote",
                fix="dvc remote add --default store FOLDER_OR_URL",
            )
        self.config.require_remote(remote)

    def _refuse_damaged(self, pointers: Sequence[Pointer]) -> None:
        """DVC sends what its cache has under a name, whatever that is."""
        memory = DigestCache(self.root / pointer.MEMORY, "md5s", pointer.file_md5)
        for tracked in pointers:
            files = self.cache.files(tracked)
            found = memory.digests(files)
            for name, md5 in self.cache.listing(tracked).items():
                if found[name] != md5:
                    self.cache.discard([files[name]])
                    where = tracked.path.relative_to(self.root)
                    raise IntegrityError(
                        f"{where}: the cache's copy of {name} is damaged",
                        why=f"its md5 is {found[name]}, not {md5}",
                        fix="it was removed from the cache; run the same command again",
                    )
