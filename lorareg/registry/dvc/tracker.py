"""Which data DVC is to be told of, by us or by ``dvc add``, and which it knows already."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lorareg.errors import NotFoundError
from lorareg.registry.digest import DigestCache
from lorareg.registry.dvc import copying, locks, placing, pointer, pointerfile, tracking
from lorareg.registry.dvc.config import Config
from lorareg.registry.dvc.objects import Objects
from lorareg.registry.dvc.pointer import Pointer
from lorareg.registry.dvc.tracking import Candidate
from lorareg.registry.paths import resolve_inside
from lorareg.registry.sharing.meter import Meter


@dataclass(frozen=True)
class Tracker:
    """Tracks files and folders; ``Store`` is its public face.

    Attributes:
        root: the registry's top.
        config: of DVC, as it is now.
        run: runs a dvc command line.
        patience: seconds to wait for other DVC processes.
    """

    root: Path
    config: Config
    run: Callable[..., str]
    patience: float

    def look(self, paths: Sequence[Path], remember: bool) -> list[Candidate]:
        """Files and folders as they are on disk, beside what their pointers say.

        Nothing is written, unless to remember their digests.

        Raises:
            NotFoundError: there is nothing at a path.
            InvalidFileError: a path leads out of the registry, or a file name in it does not work
                on every machine.
            ExternalToolError: git tracks it.
        """
        names = [os.path.relpath(self.root / path, self.root) for path in paths]
        found = [resolve_inside(self.root, name) for name in names]
        for path in found:
            if not path.exists():
                raise NotFoundError(f"there is nothing to track at {self._name(path)}")
            if path.is_dir():
                pointer.check_folder(path)
        files = [pointer.pointer_path(path) for path in found]
        known = [pointer.read(self.root, file) if file.is_file() else None for file in files]
        memory = DigestCache(
            self.root / pointer.MEMORY if remember else None, "md5s", pointer.file_md5
        )
        candidates = tracking.look(found, known, memory)
        new = [each.path for each in candidates if each.known is None]
        tracking.refuse_in_git(self.root, new)
        return candidates

    def track(
        self, candidates: Sequence[Candidate], remotes: Sequence[str | None], meter: Meter
    ) -> list[Pointer]:
        """Bring what is on disk into the cache; the public face is ``Store.track_all``."""
        for remote in {each for each in remotes if each is not None}:
            self.config.require_remote(remote)
        wanted = list(zip(candidates, remotes, strict=True))
        cache = Objects(self.config.objects)
        due = [pair for pair in wanted if not self._is_tracked(*pair, cache)]
        plain, quiet = self.config.is_plain, _Quiet(self.root)
        groups: dict[bool, list[tuple[Candidate, str | None]]] = {True: [], False: []}
        for pair in due:
            groups[plain and quiet.sees_all_of(pair[0])].append(pair)
        written = self._write(groups[True], cache, meter)
        if groups[False]:
            names = [self._name(candidate.path) for candidate, _ in groups[False]]
            self.run("add", "--", *names)
        return [
            written.get(candidate.path) or self._with_remote(candidate, remote)
            for candidate, remote in wanted
        ]

    def _write(
        self, due: Sequence[tuple[Candidate, str | None]], cache: Objects, meter: Meter
    ) -> dict[Path, Pointer]:
        if not due:
            return {}
        candidates = [candidate for candidate, _ in due]
        meter.begin("hashing", sum(candidate.size for candidate in candidates))
        try:
            with locks.held(self.root, self.patience):
                copying.begin(cache)
                tracking.into_cache(candidates, cache, meter.advance)
                remotes = [remote for _, remote in due]
                made = tracking.write_pointers(candidates, remotes, self.root / placing.SCRATCH)
        finally:
            meter.end()
        os.sync()  # once for all: what is announced later survives a power cut
        return {each.path: each for each in made}

    def _is_tracked(self, candidate: Candidate, remote: str | None, cache: Objects) -> bool:
        known = candidate.known
        if known is None or not cache.holds(known):
            return False
        same = candidate.pointer(known.remote).md5 == known.md5
        if not same and not _Quiet(self.root).sees_all_of(candidate):
            same = self._dvc_sees_no_change(known)
        return same and known.remote == remote

    def _with_remote(self, candidate: Candidate, remote: str | None) -> Pointer:
        known = candidate.known
        tracked = known if known and candidate.pointer(remote) == known else None
        tracked = tracked or pointer.read(self.root, pointer.pointer_path(candidate.path))
        if tracked.remote != remote:
            tracked = replace(tracked, remote=remote)
            pointerfile.write(tracked, self.root / placing.SCRATCH)
        return tracked

    def _dvc_sees_no_change(self, known: Pointer) -> bool:
        answer = self.run("status", "--json", "--", self._name(known.file))
        return answer.strip() == "{}"

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


class _Quiet:
    """Remembers which folders have no .dvcignore that says something."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[Path, bool] = {}

    def sees_all_of(self, candidate: Candidate) -> bool:
        """Whether DVC would see the very same files, and keep them as we do."""
        inner = any(name.rpartition("/")[2] == ".dvcignore" for name in candidate.files)
        return not (candidate.is_executable or inner or self._has_rules(candidate.path.parent))

    def _has_rules(self, folder: Path) -> bool:
        if folder not in self._known:
            above = folder != self._root and self._has_rules(folder.parent)
            self._known[folder] = above or _says_something(folder / ".dvcignore")
        return self._known[folder]


def has_ignore_rules(root: Path, path: Path) -> bool:
    """Whether a .dvcignore from the top down to a path says anything."""
    folders = [each for each in path.parents if each.is_relative_to(root)]
    return any(_says_something(folder / ".dvcignore") for folder in folders)


def _says_something(file: Path) -> bool:
    lines = file.read_text("utf-8", "replace").splitlines() if file.is_file() else []
    return any(line.strip() and not line.strip().startswith("#") for line in lines)
