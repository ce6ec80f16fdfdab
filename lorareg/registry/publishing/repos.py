"""Repositories on the Hub, to write to and to read from. Every call may be made twice."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import LoraregError, NotFoundError
from lorareg.registry.publication import Gate
from lorareg.registry.publishing.door import bars_for_people, door, patiently

TIMEOUT = 10.0  # seconds, of a question
OWN_FILES = (".gitattributes",)
"""What the Hub puts into a new repository."""
Content = bytes | Path


@dataclass(frozen=True)
class RemoteFile:
    """A file as the Hub lists it; ``sha256`` is known of what git LFS keeps."""

    size: int
    blob: str
    sha256: str | None


@dataclass(frozen=True)
class Remote:
    """A repository at one of its commits.

    Attributes:
        commit: 40 hex digits.
        tags: name -> commit.
    """

    id: str
    commit: str
    private: bool
    gated: Gate
    files: Mapping[str, RemoteFile]
    tags: Mapping[str, str]

    @property
    def is_empty(self) -> bool:
        """Whether nobody has put anything in."""
        return not self.files.keys() - set(OWN_FILES)


def look(repo: str, revision: str | None = None) -> Remote | None:
    """A repository at a revision (default: main); None if there is none that the token may see.

    Raises:
        NotFoundError: the repository has no such revision.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    with door(repo, "read"):
        try:
            found = patiently(
                lambda: HfApi().model_info(
                    repo, revision=revision, files_metadata=True, timeout=TIMEOUT
                )
            )
            refs = patiently(lambda: HfApi().list_repo_refs(repo))
        except RepositoryNotFoundError:
            return None
    files = {
        each.rfilename: RemoteFile(
            each.size or 0, each.blob_id or "", each.lfs.sha256 if each.lfs else None
        )
        for each in found.siblings or ()
    }
    tags = {tag.name: tag.target_commit for tag in refs.tags}
    gated: Gate = found.gated or False
    return Remote(repo, str(found.sha), bool(found.private), gated, files, tags)


def must_look(repo: str, revision: str | None = None) -> Remote:
    """As ``look``.

    Raises:
        NotFoundError: there is none that the token may see.
    """
    found = look(repo, revision)
    if found is None:
        raise NotFoundError(
            f"there is no {repo} on the Hub that you may see",
            why="it does not exist, or is private and your token is of somebody else",
            fix="correct the name, or log in: hf auth login",
        )
    return found


def create(repo: str) -> None:
    """Make a private repository, unless it is there."""
    from huggingface_hub import HfApi

    with door(repo, "create"):
        patiently(lambda: HfApi().create_repo(repo, private=True, exist_ok=True))


def commit(
    repo: str, files: Mapping[str, Content], gone: Sequence[str], *, title: str, parent: str
) -> str:
    """Add files and remove others in one commit on top of ``parent``; returns the new commit.

    Raises:
        MovedError: something else is on top of ``parent``.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    def send() -> str:
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationAdd(path, content) for path, content in files.items()
        ]
        operations += [CommitOperationDelete(path) for path in gone]
        made = HfApi().create_commit(repo, operations, commit_message=title, parent_commit=parent)
        return str(made.oid)

    with door(repo, "write to"), bars_for_people():
        return patiently(send)


def tag(repo: str, name: str, revision: str) -> None:
    """Give a commit a name; one that exists stays as it is."""
    from huggingface_hub import HfApi

    with door(repo, "write to"):
        patiently(lambda: HfApi().create_tag(repo, tag=name, revision=revision, exist_ok=True))


def set_access(repo: str, *, private: bool, gated: Gate) -> None:
    """Say who may see and download a repository, all in one call: there is no moment between."""
    from huggingface_hub import HfApi

    with door(repo, "change the settings of"):
        patiently(lambda: HfApi().update_repo_settings(repo, private=private, gated=gated))


def read(repo: str, path: str, revision: str, *, max_bytes: int) -> bytes:
    """A small file of a repository, from the Hub and not from the client's cache.

    Raises:
        LoraregError: it is larger than ``max_bytes``.
    """
    with tempfile.TemporaryDirectory(prefix="lorareg-") as folder:
        file = download(repo, path, revision, Path(folder))
        size = file.stat().st_size
        if size > max_bytes:
            raise LoraregError(f"{path} in {repo} is too large", why=f"{size} bytes")
        return file.read_bytes()


def download(repo: str, path: str, revision: str, folder: Path) -> Path:
    """A file of a repository; the client compares nothing but its size."""
    from huggingface_hub import hf_hub_download

    with door(repo, "download from"), bars_for_people():
        return Path(
            patiently(lambda: hf_hub_download(repo, path, revision=revision, cache_dir=folder))
        )


def address(repo: str, revision: str | None = None) -> str:
    """Where people see a repository."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{repo}" + (f"/tree/{revision}" if revision else "")
