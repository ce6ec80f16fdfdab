"""What the tests' Hub keeps: files, commits, repositories, collections. All of it in memory."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any, Literal

SHA = re.compile(r"[0-9a-f]{7,40}")
Kind = Literal["model", "dataset", "space"]
Gate = Literal[False, "auto", "manual"]


def now() -> str:
    """The time as the Hub writes it."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return f"{stamp[:-3]}Z"


@dataclass(frozen=True)
class File:
    """One file of a commit.

    Attributes:
        data: its bytes.
        sha256: set if it is kept by git LFS; the commit then holds only a pointer.
    """

    data: bytes
    sha256: str | None = None

    @property
    def oid(self) -> str:
        """git's name for what the commit holds."""
        data = self._pointer if self.sha256 else self.data
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    @property
    def etag(self) -> str:
        """What a download names it by."""
        return self.sha256 or self.oid

    def info(self, path: str) -> dict[str, Any]:
        """How listings show it."""
        size = len(self.data)
        shown: dict[str, Any] = {"type": "file", "path": path, "oid": self.oid, "size": size}
        if self.sha256:
            shown["lfs"] = {"oid": self.sha256, "size": size, "pointerSize": len(self._pointer)}
        return shown

    @property
    def _pointer(self) -> bytes:
        lines = ("version https://git-lfs.github.com/spec/v1", f"oid sha256:{self.sha256}")
        return "\n".join((*lines, f"size {len(self.data)}", "")).encode()


@dataclass(frozen=True)
class Commit:
    """One state of a repository."""

    sha: str
    parent: str | None
    files: dict[str, File]
    title: str
    message: str
    author: str
    date: str


@dataclass
class Access:
    """Somebody's request to get behind a gate."""

    request: str
    status: Literal["pending", "accepted", "rejected"]
    since: str


@dataclass
class Repo:
    """One repository.

    Attributes:
        tags: name -> commit.
        proposals: commits of pull requests, by their number from 1.
        uploaded: sha256 of the objects that were offered to this repository.
    """

    kind: Kind
    id: str
    private: bool
    gated: Gate = False
    created: str = field(default_factory=now)
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    proposals: list[str] = field(default_factory=list)
    access: dict[str, Access] = field(default_factory=dict)
    uploaded: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        first = self.add({".gitattributes": File(b"")}, "initial commit", self.owner)
        self.branches["main"] = first.sha

    @property
    def owner(self) -> str:
        """The user or organisation whose namespace it is in."""
        return self.id.partition("/")[0]

    @property
    def head(self) -> Commit:
        """The newest state of the main branch."""
        return self.commits[self.branches["main"]]

    def add(
        self, files: dict[str, File], title: str, author: str, parent: str | None = None
    ) -> Commit:
        """A new commit, which no branch points to yet; its message are the lines of ``title``."""
        first, _, rest = title.partition("\n")
        stamp = now()
        told = [sorted((path, file.oid) for path, file in files.items()), title, author, parent]
        sha = hashlib.sha1(json.dumps([told, stamp, len(self.commits)]).encode()).hexdigest()
        self.commits[sha] = Commit(sha, parent, files, first, rest.strip(), author, stamp)
        return self.commits[sha]

    def find(self, revision: str) -> Commit | None:
        """The commit that a branch, tag, pull request or (abbreviated) commit means."""
        name = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        if name.startswith("refs/pr/"):
            number = int(name.rpartition("/")[2])
            known = 0 < number <= len(self.proposals)
            return self.commits[self.proposals[number - 1]] if known else None
        sha = self.branches.get(name) or self.tags.get(name)
        if sha is None and SHA.fullmatch(name):
            found = [each for each in self.commits if each.startswith(name)]
            sha = found[0] if len(found) == 1 else None
        return self.commits.get(sha) if sha else None


@dataclass
class Collection:
    """A list of repositories that somebody keeps."""

    slug: str
    title: str
    description: str | None
    private: bool
    items: list[dict[str, Any]] = field(default_factory=list)

    @property
    def owner(self) -> str:
        """The user or organisation whose namespace it is in."""
        return self.slug.partition("/")[0]

    def info(self) -> dict[str, Any]:
        """How the Hub shows it; in a list its place there is its position."""
        return {
            "slug": self.slug,
            "title": self.title,
            "owner": {"name": self.owner},
            "items": self.items,
            "lastUpdated": now(),
            "position": 0,
            "private": self.private,
            "theme": "green",
            "upvotes": 0,
            "description": self.description,
        }
