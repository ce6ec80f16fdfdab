"""DVC, the carrier of bytes: the only door to it.

Writing goes through DVC's command line, its one stable interface; its small files are read without
it. Three habits of DVC 3 are made safe here:

- it does not verify bytes on the way in, so ``fetch`` stops in the cache, where a caller compares
  them with a lock before ``checkout`` lets a file appear;
- it ends well ("Everything is up to date", status 0) when bytes are missing on both sides, when
  the remote asked for is not the pointer's own, and when a remote has a folder's listing but lost
  its files; so what is there is looked at before a push and after a fetch;
- when the cache lacks one file, its checkout removes the whole folder; so that is looked at before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import ExternalToolError, LoraregError, NotFoundError
from lorareg.registry import dvccommand, dvcconfig, pointer
from lorareg.registry.dvcconfig import Config
from lorareg.registry.files import write_atomically
from lorareg.registry.objects import Objects
from lorareg.registry.paths import resolve_inside
from lorareg.registry.pointer import Pointer, State

SETTINGS = {
    # hard links and symbolic links let one careless write corrupt the cache
    ("cache", "type"): "reflink,copy",
    ("core", "analytics"): "false",
    ("core", "check_update"): "false",
    ("core", "autostage"): "false",
}
COUNT = re.compile(r"(\d+) files? (?:pushed|fetched)")


@dataclass(frozen=True)
class Store:
    """The DVC side of a registry.

    Attributes:
        root: the registry's top, where .dvc/ is; absolute.
        patience: seconds to wait for other DVC processes.
    """

    root: Path
    patience: float = 600

    def init(self) -> None:
        """Make .dvc/ with our settings in a git repository; other settings stay as they are."""
        file = self.root / ".dvc" / "config"
        if not file.is_file():
            self._run("init")
            write_atomically(file, dvcconfig.as_text(SETTINGS))
        found = dvcconfig.load(file)
        for (section, key), value in SETTINGS.items():
            if found.get((section, key)) != value:
                self._run("config", f"{section}.{key}", value)

    def add_remote(self, name: str, url: str, *, default: bool = False) -> None:
        """Say where bytes go; the same call again changes nothing, another URL replaces the first.

        Args:
            name: lower-case letters, digits, "_", "." and "-".
            url: s3://, ssh://, ... or a folder; a relative one starts at the registry's top. A
                folder in the registry is stored as a relative path, so that a clone finds it.
            default: use it for data that names no remote.

        Raises:
            LoraregError: a name DVC would not find again, or a URL with a password in it.
        """
        dvcconfig.check_remote(name, url)
        place = dvcconfig.absolute(url, self.root)
        if "://" not in url and Path(place).is_relative_to(self.root):
            url = Path(place).relative_to(self.root).as_posix()
        config = self._config
        if name not in config.remotes:
            self._run("remote", "add", name, url)
        elif config.remotes[name] != place:
            self._run("remote", "modify", name, "url", url)
        if default and config.default_remote != name:
            self._run("remote", "default", name)

    def remotes(self) -> dict[str, str]:
        """Remotes by name: a URL, or the absolute path of a folder."""
        return self._config.remotes

    def default_remote(self) -> str | None:
        """The remote of data that names none."""
        return self._config.default_remote

    def pointer(self, file: Path) -> Pointer:
        """Read a .dvc file; raises as ``pointer.read``."""
        return pointer.read(self.root, file)

    def track(self, path: Path, *, remote: str | None = None) -> Pointer:
        """Copy a file or folder into the cache and write its pointer next to it, ``path``.dvc.

        Nothing is done, and DVC not started, when the pointer already says so. DVC keeps the path
        in its folder's .gitignore, which is to be committed with the pointer.

        Args:
            path: in the registry, not known to git.
            remote: the only remote these bytes may go to; None keeps what the pointer says.

        Raises:
            NotFoundError: there is nothing at ``path``.
            InvalidFileError: ``path`` leads out of the registry, or a file name in it does not
                work on every machine.
            ExternalToolError: DVC refuses; the usual case is a path that git tracks.
        """
        path = resolve_inside(self.root, os.path.relpath(self.root / path, self.root))
        name = self._relative(path)
        if not path.exists():
            raise NotFoundError(f"there is nothing to track at {name}")
        if path.is_dir():
            pointer.check_folder(path)
        if remote is not None:
            self._check_known(remote)
        file = pointer.pointer_path(path)
        tracked = self.pointer(file) if file.is_file() else None
        if tracked is None or not self.is_cached(tracked) or self.status(tracked) != "unchanged":
            self._run("add", "--", name)
            tracked = self.pointer(file)
        if remote is not None and tracked.remote != remote:
            pointer.write_remote(tracked, remote)
            tracked = self.pointer(file)
        return tracked

    def status(self, tracked: Pointer) -> State:
        """Whether the data on disk is what the pointer says; every byte is hashed, without DVC.

        Only when it differs and the top's ``.dvcignore`` has rules, DVC is asked, since it may
        leave out the very file that differs.
        """
        found = pointer.state(tracked)
        if found != "modified" or not self._has_ignore_rules() or not self.is_cached(tracked):
            return found
        answer = self._run("status", "--json", "--", self._relative(tracked.file))
        return "unchanged" if answer.strip() == "{}" else "modified"

    def push(
        self, pointers: Sequence[Pointer], *, remote: str | None = None, jobs: int | None = None
    ) -> int:
        """Upload what the remote lacks, from the cache.

        Args:
            pointers: what to upload, each to the remote it names, else to ``remote``, else to the
                default one.
            remote: name of a remote.
            jobs: files at a time; DVC's default is 4 a core.

        Returns:
            Number of objects uploaded: files, and a listing for each folder.

        Raises:
            NotFoundError: the bytes are not in the cache here.
            ExternalToolError: the remote is not configured, reachable, writable or large enough.
        """
        for tracked in pointers:
            self.cached_files(tracked)
            self._forget_broken_copy(tracked, remote)
        pushed = self._transfer("push", pointers, remote, jobs)
        for tracked in pointers:
            there = self._remote_folder(tracked, remote)
            if there and there.lacks(self._md5s(tracked)):
                raise ExternalToolError(
                    f"{self._relative(tracked.path)} did not arrive whole",
                    why="DVC takes the remote's copy for complete, but files of it are not there",
                    fix="push without DVC's memory of the remote: "
                    "DVC_SITE_CACHE_DIR=$(mktemp -d) lorareg push",
                )
        return pushed

    def fetch(
        self, pointers: Sequence[Pointer], *, remote: str | None = None, jobs: int | None = None
    ) -> int:
        """Download what the cache lacks, into the cache only; the bytes are *not* verified.

        Arguments as for ``push``.

        Returns:
            Number of objects downloaded.

        Raises:
            NotFoundError: the remote does not have them.
            IntegrityError: the remote's listing of a folder is damaged.
            ExternalToolError: the remote is not configured, reachable or readable.
        """
        for tracked in pointers:
            if self.cache.has_damaged_listing(tracked):
                self.discard([self.cache.place(tracked.md5)])
        fetched = self._transfer("fetch", pointers, remote, jobs)
        for tracked in pointers:
            self.cached_files(tracked)
        return fetched

    def checkout(self, pointers: Sequence[Pointer]) -> None:
        """Make the files appear, out of the cache; verify ``cached_files`` first.

        Raises:
            NotFoundError: the cache lacks some.
            ExternalToolError: a change on disk that is not in the cache would be lost.
        """
        for tracked in pointers:
            self.cached_files(tracked)
        if pointers:
            self._run("checkout", "--", *(self._relative(each.file) for each in pointers))

    @property
    def cache(self) -> Objects:
        """DVC's cache, wherever it is configured to be."""
        return Objects(self._config.objects)

    def cached_files(self, tracked: Pointer) -> dict[str, Path]:
        """Where in the cache the bytes are: name in the folder (a single file: its own) -> file.

        Raises as ``Objects.files``.
        """
        return self.cache.files(tracked)

    def is_cached(self, tracked: Pointer) -> bool:
        """Whether all bytes are in the cache, right or wrong."""
        try:
            return not self.cache.lacks(self._md5s(tracked))
        except NotFoundError:
            return False

    def discard(self, objects: Sequence[Path]) -> None:
        """Remove bytes that failed verification from the cache, so that they are fetched anew."""
        self.cache.discard(objects)

    def borrow(self, lender: Store) -> None:
        """Use another checkout's cache, remotes and credentials, as a temporary worktree must.

        It has no cache or credentials of its own, and remotes that are relative paths would lead
        elsewhere from there. They go into ``.dvc/config.local``, which git ignores.
        """
        values = {
            **dvcconfig.read_own(lender.root / ".dvc"),
            ("cache", "dir"): str(lender.cache.folder.parents[1]),
        }
        file = self.root / ".dvc" / "config.local"
        write_atomically(file, dvcconfig.as_text(values))
        file.chmod(0o600)

    @property
    def _config(self) -> Config:
        return dvcconfig.read(self.root / ".dvc")

    def _run(self, *arguments: str) -> str:
        return dvccommand.run(self.root, *arguments, patience=self.patience)

    def _transfer(
        self, verb: str, pointers: Sequence[Pointer], remote: str | None, jobs: int | None
    ) -> int:
        if not pointers:
            return 0
        for tracked in pointers:
            if remote is not None and tracked.remote not in (None, remote):
                raise LoraregError(
                    f"{self._relative(tracked.path)} may not go to or come from {remote!r}",
                    why=f"its pointer names remote {tracked.remote!r}; DVC would skip it silently",
                    fix=f"leave the remote out, or name {tracked.remote}",
                )
        options = [] if jobs is None else ["--jobs", str(jobs)]
        if remote is not None:
            self._check_known(remote)
            options += ["--remote", remote]
        files = (self._relative(tracked.file) for tracked in pointers)
        count = COUNT.search(self._run(verb, *options, "--", *files))
        return int(count[1]) if count else 0

    def _md5s(self, tracked: Pointer) -> set[str]:
        return {*self.cache.listing(tracked).values(), tracked.md5}

    def _remote_folder(self, tracked: Pointer, remote: str | None) -> Objects | None:
        objects = self._config.remote_objects(tracked.remote or remote)
        return None if objects is None else Objects(objects)

    def _forget_broken_copy(self, tracked: Pointer, remote: str | None) -> None:
        """Remove a folder's listing from a remote that lost files of it.

        DVC takes the presence of a listing for the presence of all its files, and would never
        upload them again.
        """
        there = self._remote_folder(tracked, remote)
        listing = there.place(tracked.md5) if there and tracked.is_folder else None
        if there and listing and listing.exists() and there.lacks(self._md5s(tracked)):
            there.discard([listing])

    def _has_ignore_rules(self) -> bool:
        file = self.root / ".dvcignore"
        lines = file.read_text("utf-8", "replace").splitlines() if file.is_file() else []
        return any(line.strip() and not line.strip().startswith("#") for line in lines)

    def _check_known(self, remote: str) -> None:
        known = self.remotes()
        if remote not in known:
            raise ExternalToolError(
                f"there is no DVC remote {remote!r}",
                why=f"known: {', '.join(sorted(known)) or 'none'}",
                fix=f"dvc remote add {remote} FOLDER_OR_URL",
            )

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()
