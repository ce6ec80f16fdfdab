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

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lorareg.registry.digest import DigestCache
from lorareg.registry.dvc import command, locks, placing, pointer, tracker
from lorareg.registry.dvc import config as dvcconfig
from lorareg.registry.dvc.carrier import Carrier
from lorareg.registry.dvc.config import Config
from lorareg.registry.dvc.objects import Objects
from lorareg.registry.dvc.pointer import Pointer, State
from lorareg.registry.dvc.tracker import Tracker
from lorareg.registry.dvc.tracking import Candidate
from lorareg.registry.dvc.transfer import Moved
from lorareg.registry.files import write_atomically
from lorareg.registry.sharing.meter import Meter, Silent

SETTINGS = {
    # hard links and symbolic links let one careless write corrupt the cache
    ("cache", "type"): "reflink,copy",
    ("core", "analytics"): "false",
    ("core", "check_update"): "false",
    ("core", "autostage"): "false",
}
SILENT = Silent()


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
            self._run("remote", "add", *(["--default"] if default else []), name, url)
            return
        if config.remotes[name] != place:
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
        """Track one path; ``remote`` None keeps what its pointer says. Raises as ``track_all``."""
        (candidate,) = self.look([path])
        kept = candidate.known.remote if candidate.known else None
        (made,) = self.track_all([candidate], [remote or kept], SILENT)
        return made

    def look(self, paths: Sequence[Path], *, remember: bool = True) -> list[Candidate]:
        """Files and folders as they are on disk, beside what their pointers say.

        Nothing is written, unless to remember their digests. Raises as ``Tracker.look``.
        """
        return self._tracker.look(paths, remember)

    def track_all(
        self, candidates: Sequence[Candidate], remotes: Sequence[str | None], meter: Meter
    ) -> list[Pointer]:
        """Copy what is on disk into the cache and write a pointer next to it, ``path``.dvc.

        Where the pointer says so already, nothing is done. Each path is kept in its folder's
        .gitignore, which is to be committed with the pointer.

        Args:
            candidates: what ``look`` found.
            remotes: for each the only remote its bytes may go to; None is the default one.
            meter: is told of every byte.

        Raises:
            ExternalToolError: DVC refuses or is busy; the disk is full.
        """
        return self._tracker.track(candidates, remotes, meter)

    def status(self, tracked: Pointer) -> State:
        """Whether the data on disk is what the pointer says; every byte is hashed, without DVC.

        Only when it differs and the top's ``.dvcignore`` has rules, DVC is asked, since it may
        leave out the very file that differs.
        """
        found = pointer.state(tracked)
        may_ignore = tracker.has_ignore_rules(self.root, tracked.path)
        if found != "modified" or not may_ignore or not self.is_cached(tracked):
            return found
        answer = self._run("status", "--json", "--", self._relative(tracked.file))
        return "unchanged" if answer.strip() == "{}" else "modified"

    def push(self, pointers: Sequence[Pointer], meter: Meter = SILENT) -> Moved:
        """Upload what the remotes lack, from the cache, each to its own remote.

        Raises:
            NotFoundError: the bytes are neither in the cache here nor seen to be there.
            IntegrityError: the cache holds other bytes than it says.
            ExternalToolError: the remote is not configured, reachable, writable or large enough.
        """
        return self._carrier.push(pointers, meter)

    def missing(self, tracked: Pointer) -> dict[str, int]:
        """What a push of this would upload to a folder remote: md5 -> bytes."""
        return self._carrier.missing(tracked)

    def fetch(self, pointers: Sequence[Pointer], meter: Meter = SILENT) -> Moved:
        """Download what the cache lacks, into the cache only; a lock has still to be asked.

        Raises:
            NotFoundError: the remote does not have them.
            IntegrityError: the remote has other bytes than their names say.
            ExternalToolError: the remote is not configured, reachable or readable.
        """
        moved = self.fetch_each(pointers, meter)
        for error in moved.failed.values():
            raise error
        return moved

    def fetch_each(self, pointers: Sequence[Pointer], meter: Meter = SILENT) -> Moved:
        """Like ``fetch``, but what fails does not stop the others: it is told in the answer."""
        return self._carrier.fetch_each(pointers, meter)

    def remote_folder(self, tracked: Pointer) -> Objects | None:
        """The objects of its remote where that is a folder; None for a service."""
        return self.folder_of(tracked.remote or self.default_remote() or "")

    def folder_of(self, remote: str) -> Objects | None:
        """The objects of a remote that is a folder; None for a service."""
        return self._carrier.folder(remote)

    def checkout(self, pointers: Sequence[Pointer]) -> None:
        """Make the files appear, out of the cache; verify ``cached_files`` first.

        A folder appears whole, in one rename; see ``placing``.

        Raises:
            NotFoundError: the cache lacks some.
            ExternalToolError: a change on disk that is not in the cache would be lost.
        """
        for tracked in pointers:
            self.cached_files(tracked)
        plain = self._config.is_plain
        ours = [each for each in pointers if plain and self._is_ours(each)]
        theirs = [self._relative(each.file) for each in pointers if each not in ours]
        if ours:
            with locks.held(self.root, self.patience):
                placing.sweep(self._scratch)
                for tracked in ours:
                    placing.place(tracked, self.cache, self._md5s, self._scratch)
        if theirs:
            self._run("checkout", "--", *theirs)

    def _is_ours(self, tracked: Pointer) -> bool:
        """Whether DVC would put the very same files in place."""
        return not (tracked.is_executable or tracker.has_ignore_rules(self.root, tracked.path))

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
        return self.cache.holds(tracked)

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
        return command.run(self.root, *arguments, patience=self.patience)

    @property
    def _tracker(self) -> Tracker:
        return Tracker(self.root, self._config, self._run, self.patience)

    @property
    def _carrier(self) -> Carrier:
        return Carrier(self.root, self._config, self._run)

    @property
    def _md5s(self) -> DigestCache:
        return DigestCache(self.root / pointer.MEMORY, "md5s", pointer.file_md5)

    @property
    def _scratch(self) -> Path:
        return self.root / placing.SCRATCH

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()
