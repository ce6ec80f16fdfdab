"""Annotated tags: signed with an SSH key, and read back to the byte so that they can be checked.

A tag object is its header, the message and, at the end, the armoured signature over what stands
before it (gitformat-signature(5)).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import LoraregError, NotFoundError
from lorareg.registry.git import blobs
from lorareg.registry.git.command import call

BEGIN = b"-----BEGIN SSH SIGNATURE-----"
MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class TagObject:
    """An annotated tag.

    Attributes:
        id: of the tag object itself, 40 hex digits: another one is another tag of that name.
        commit: what it points to.
        tagger: ``Name <mail>``, as the tagger's git says.
        message: without the signature.
        payload: the bytes that the signature is over.
        signature: armoured; None if it is not signed, or not by SSH.
    """

    id: str
    commit: str
    tagger: str
    message: str
    payload: bytes
    signature: str | None


def sign(root: Path, name: str, commit: str, message: str, key: Path) -> str:
    """Make a signed tag; returns the id of its object.

    Raises:
        LoraregError: the tag is there already.
        ExternalToolError: git or ssh-keygen refuses.
    """
    if call(root, ["rev-parse", "--verify", "--quiet", f"refs/tags/{name}"]).status == 0:
        raise LoraregError(
            f"the tag {name} is there already",
            why="a release is never moved",
            fix=f"look at it: git show {name}",
        )
    settings = ["-c", "gpg.format=ssh", "-c", f"user.signingkey={key}"]
    made = [*settings, "tag", "--sign", f"--message={message}", "--", name, commit]
    call(root, made).must_succeed()
    return call(root, ["rev-parse", f"refs/tags/{name}"]).must_succeed().line


def read(root: Path, name: str) -> TagObject:
    """Read an annotated tag.

    Raises:
        NotFoundError: there is none of that name, or it is a mere name for a commit.
    """
    answer = blobs.look(root, f"refs/tags/{name}")
    if answer is None:
        raise NotFoundError(
            f"there is no tag {name}", fix=f"git fetch --tags; or: git tag --list '{name}'"
        )
    found, kind, size = answer
    if kind != "tag" or size > MAX_BYTES:
        raise NotFoundError(
            f"the tag {name} is not annotated" if kind != "tag" else f"the tag {name} is too large",
            why="it is a name for a commit, without message and signature"
            if kind != "tag"
            else f"{size} bytes, not {MAX_BYTES}",
            fix=f"a release is made by: lorareg release {name.partition('@')[0]}",
        )
    whole = call(root, ["cat-file", "tag", found]).must_succeed().output
    return _parse(root, found, whole)


def _parse(root: Path, object_id: str, whole: bytes) -> TagObject:
    # the last line of that kind, as git has it: a message may quote one
    before, mark, rest = whole.rpartition(b"\n" + BEGIN)
    payload = before + b"\n" if mark else rest
    head, _, message = payload.decode("utf-8", "replace").partition("\n\n")
    tagger = re.search(r"^tagger (.*?>)", head, re.MULTILINE)
    direct = re.match(r"object ([0-9a-f]{40})\ntype commit\n", head)
    return TagObject(
        id=object_id,
        commit=direct[1] if direct else _commit(root, object_id),
        tagger=tagger[1] if tagger else "",
        message=message.strip("\n"),
        payload=payload,
        signature=(BEGIN + rest).decode("ascii", "replace") if mark else None,
    )


def _commit(root: Path, object_id: str) -> str:
    """Of a tag on another tag; "" if it leads to none."""
    found = call(root, ["rev-parse", "--verify", "--quiet", f"{object_id}^{{commit}}"])
    return found.line if found.status == 0 else ""
