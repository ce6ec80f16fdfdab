"""Git, the keeper of truth: the only door to it.

Git's own commands are run (through GitPython, output captured, no prompt, no editor), so that the
user's settings, hooks and signing keys hold. Each commit holds the paths it was asked for and
nothing else that happens to be staged.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import ExternalToolError, LoraregError, NotFoundError
from lorareg.registry.files import TEMPORARY
from lorareg.registry.git import outgoing as gitpush
from lorareg.registry.git import tags as gittags
from lorareg.registry.git import worktree as gitworktree
from lorareg.registry.git.command import call
from lorareg.registry.git.outgoing import Outgoing
from lorareg.registry.git.tags import TagObject
from lorareg.registry.git.update import Update, update

ALONE_SECONDS = 60  # how long another lorareg may commit or pull; hooks are slow
MAX_BYTES = 64_000_000  # of a file read out of history; manifests and locks are far smaller
NO_LEFTOVERS = f":(exclude,glob)**/.*.{'[0-9a-f]' * 16}.tmp"  # files.TEMPORARY, in git's words


@dataclass(frozen=True)
class History:
    """The git side of a registry.

    Attributes:
        root: the registry's top, which is the top of a git checkout; absolute.
    """

    root: Path

    def init(self) -> None:
        """Make a git repository unless there is one.

        Raises:
            LoraregError: the folder is inside another repository.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        top = call(self.root, ["rev-parse", "--show-toplevel"])
        if top.status != 0:
            self._git("init", "--quiet", "--initial-branch=main")
        elif Path(top.line).resolve() != self.root.resolve():
            raise LoraregError(
                f"{self.root} is inside the git repository {top.line}",
                why="a registry is the top of its repository, so that a clone is the registry",
                fix=f"lorareg init {top.line}; or choose a folder outside of it",
            )

    def head(self) -> str | None:
        """The current commit, 40 hex digits; None before the first one."""
        found = call(self.root, ["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])
        return found.line if found.status == 0 else None

    def branch(self) -> str | None:
        """The current branch; None on a detached HEAD."""
        found = call(self.root, ["symbolic-ref", "--quiet", "--short", "HEAD"])
        return found.line if found.status == 0 else None

    def remote(self, name: str = "origin") -> str | None:
        """URL of a remote, or None."""
        found = call(self.root, ["config", "--get", f"remote.{name}.url"])
        return found.line if found.status == 0 else None

    def identity(self) -> str:
        """Who commits, as ``Name <mail>``.

        Raises:
            LoraregError: git does not know; guessing from the machine's name helps nobody.
        """
        found = call(self.root, ["-c", "user.useConfigOnly=true", "var", "GIT_AUTHOR_IDENT"])
        if found.status == 0:
            return found.line.rsplit(" ", 2)[0]
        raise LoraregError(
            "git does not know who you are",
            why=found.last_words,
            fix='git config --global user.name "Your Name" && '
            "git config --global user.email you@example.org",
        )

    def set_identity(self, name: str, mail: str) -> None:
        """Say who commits in this repository only."""
        self._git("config", "user.name", name)
        self._git("config", "user.email", mail)

    def add_remote(self, name: str, url: str) -> None:
        """Say where this history is shared."""
        self._git("remote", "add", "--", name, url)

    def changed(self, paths: Iterable[Path] | None = None) -> tuple[Path, ...]:
        """Files that differ from HEAD, staged or not, also new and deleted ones.

        Args:
            paths: look only at these files and folders; None looks at all.

        Returns:
            Paths relative to the root, sorted. What .gitignore excludes does not count, nor what
            a killed command was writing.
        """
        command = ["status", "--porcelain", "-z", "--no-renames", "--untracked-files=all"]
        if paths is not None:
            wanted = [self._literally(path) for path in paths]
            if not wanted:
                return ()
            command += ["--", *wanted]
        entries = self._git(*command).split("\0")
        found = sorted(Path(entry[3:]) for entry in entries if entry)
        return tuple(path for path in found if not TEMPORARY.fullmatch(path.name))

    def is_dirty(self, paths: Iterable[Path] | None = None) -> bool:
        """Whether anything differs from HEAD; see ``changed``."""
        return bool(self.changed(paths))

    def commit(self, paths: Iterable[Path], message: str) -> str | None:
        """Commit these files and folders as they are on disk, and nothing else.

        What others have staged stays staged. Two processes may commit at the same time.

        Returns:
            The commit, or None when nothing had changed.

        Raises:
            LoraregError: git does not know who commits.
            ExternalToolError: git refuses: a hook, a merge in progress, a lock held for long.
        """
        asked = [Path(self._relative(path)) for path in paths]
        touched = {each for file in self.changed(asked) for each in (file, *file.parents)}
        changed = [path for path in asked if path in touched]
        if not changed:
            return None
        self.identity()
        wanted = [self._literally(path) for path in changed]
        with self.alone():
            self._git("add", "--all", "--", *wanted, NO_LEFTOVERS)
            command = ["commit", "--quiet", "--only", f"--message={message}", "--"]
            command += [*wanted, NO_LEFTOVERS]
            made = call(self.root, command)
        if made.status == 1 and not self.changed(changed):
            return None  # another process committed the same
        made.must_succeed()
        # not HEAD: another process may have committed since
        return self._git("rev-list", "--max-count=1", "HEAD", "--", *wanted).strip()

    def resolve(self, revision: str) -> str:
        """The commit, 40 hex digits, that a tag, branch or abbreviation means.

        Raises:
            NotFoundError: none.
        """
        name = f"{revision}^{{commit}}"
        found = call(self.root, ["rev-parse", "--verify", "--quiet", name])
        if revision.startswith("-") or found.status != 0:
            raise NotFoundError(
                f"there is no revision {revision!r}",
                why="it names no commit, tag or branch that is here",
                fix="git fetch --tags; or look it up: git log --oneline --decorate",
            )
        return found.line

    def tags(self, pattern: str) -> list[str]:
        """Names of the tags that fit a pattern with ``*``."""
        return self._git("tag", "--list", "--", pattern).split()

    def sign_tag(self, name: str, revision: str, message: str, key: Path) -> str:
        """Make a signed annotated tag; returns the id of its object. Raises as ``tags.sign``."""
        with self.alone():
            return gittags.sign(self.root, name, self.resolve(revision), message, key)

    def tag_object(self, name: str) -> TagObject:
        """An annotated tag with its signature. Raises as ``tags.read``."""
        return gittags.read(self.root, name)

    def parent(self, revision: str) -> str | None:
        """The first parent of a commit; None of the first one."""
        found = call(self.root, ["rev-parse", "--verify", "--quiet", f"{self.resolve(revision)}^"])
        return found.line if found.status == 0 else None

    def last_change(self, path: Path, revision: str = "HEAD") -> str:
        """The newest commit up to a revision that changed a file or folder.

        Raises:
            NotFoundError: none did.
        """
        name = self._literally(path)
        found = self._git("rev-list", "--max-count=1", self.resolve(revision), "--", name).strip()
        if not found:
            raise NotFoundError(f"no commit up to {revision} has {self._relative(path)}")
        return found

    def exists(self, path: Path, revision: str) -> bool:
        """Whether a file or folder was there at a revision."""
        blob = f"{self.resolve(revision)}:{self._relative(path)}"
        return call(self.root, ["cat-file", "-e", blob]).status == 0

    def read(self, path: Path, revision: str) -> bytes:
        """A file's bytes at a revision.

        Raises:
            NotFoundError: no such revision, or no such file in it.
            LoraregError: it is larger than anything a registry keeps in git.
        """
        name = self._relative(path)
        blob = f"{self.resolve(revision)}:{name}"
        size = call(self.root, ["cat-file", "-s", blob])
        if size.status == 0 and int(size.line) > MAX_BYTES:
            raise LoraregError(
                f"{name} at {revision} is too large", why=f"{size.line} bytes, not {MAX_BYTES}"
            )
        found = call(self.root, ["cat-file", "blob", blob])
        if found.status != 0:
            raise NotFoundError(f"there is no file {name} at {revision}", why=found.last_words)
        return found.output

    def outgoing(self, remote: str | None = None) -> Outgoing:
        """What a push would announce. Raises as ``push``."""
        return gitpush.outgoing(self.root, *self._destination(remote))

    def push(self, remote: str | None = None) -> Outgoing:
        """Send the current branch, and the annotated tags on it that the remote lacks.

        Raises:
            LoraregError: there is no remote, no branch or no commit; or a tag means another
                release there.
            OthersPushedError: others pushed before.
            ExternalToolError: the remote refuses.
        """
        what = self.outgoing(remote)
        gitpush.refuse_moved(what.moved, what.remote)
        self.announce(what)
        return what

    def announce(self, what: Outgoing) -> None:
        """Send just this. Raises as ``git.outgoing.push``."""
        if not what.up_to_date:
            gitpush.push(self.root, what)

    def pull(self, remote: str | None = None) -> Update:
        """Get what others pushed: fast-forward, else put the local commits on top of it.

        Local commits that carry a tag are merged instead: a rebase would leave a release behind
        on a commit that is on no branch.

        Raises:
            LoraregError: there is no remote, no branch; or a file that would change has
                uncommitted changes.
            ExternalToolError: the remote cannot be reached; or both sides changed the same lines:
                then everything is as before.
        """
        name, branch = self._destination(remote, must_have_commit=False)
        with self.alone():
            return update(self.root, name, branch)

    def worktree(
        self, revision: str, *, inside: Path | None = None
    ) -> AbstractContextManager[Path]:
        """A clean checkout of a revision for a block; by default in a temporary folder."""
        return gitworktree.worktree(self.root, self.resolve(revision), inside)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other lorareg processes from writing here meanwhile; may be nested.

        ``git commit --only`` reads the index before it locks it, so of two at the same time one
        forgets, in the index, the new file that the other has just committed.
        """
        from filelock import FileLock, Timeout

        file = self.root / self._git("rev-parse", "--git-path", "lorareg.lock").strip()
        try:
            with FileLock(file, timeout=ALONE_SECONDS, is_singleton=True):
                yield
        except Timeout as error:
            raise ExternalToolError(
                "another lorareg is writing to this git repository",
                why=f"it has held {file.name} for more than {ALONE_SECONDS} seconds",
                fix="wait for it to end, or end it; then run this again",
            ) from error

    def _destination(self, remote: str | None, must_have_commit: bool = True) -> tuple[str, str]:
        branch = self.branch()
        if branch is None:
            raise LoraregError(
                "you are on no branch", why="HEAD is detached", fix="git switch main"
            )
        if must_have_commit and self.head() is None:
            raise LoraregError("there is no commit yet", fix="git add -A && git commit")
        if remote is None:
            configured = call(self.root, ["config", "--get", f"branch.{branch}.remote"])
            remote = configured.line if configured.status == 0 else "origin"
        if self.remote(remote) is None:
            raise LoraregError(
                f"there is no git remote {remote!r}",
                why="nobody to share with is configured",
                fix=f"git remote add {remote} URL",
            )
        return remote, branch

    def _relative(self, path: Path) -> str:
        inside = os.path.relpath(self.root / path, self.root)
        if inside.split(os.sep)[0] == "..":
            raise LoraregError(f"{path} is not in the registry", why=f"its top is {self.root}")
        return Path(inside).as_posix()

    def _literally(self, path: Path) -> str:
        """The path for git's command line, where a file may be named * or :x."""
        return f":(literal){self._relative(path)}"

    def _git(self, *arguments: str) -> str:
        return call(self.root, arguments).must_succeed().text
