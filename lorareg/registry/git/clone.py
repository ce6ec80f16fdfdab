"""Where a history begins: a copy of another one, or an empty place to push to."""

from __future__ import annotations

import re
from pathlib import Path

from lorareg.errors import LoraregError
from lorareg.registry.git.command import NO_COMMANDS_IN_URLS, call
from lorareg.registry.git.history import History

URL = re.compile(
    r"(https?|ssh|git|file)://[^-].*"  # ssh://-o... would be an option of ssh
    r"|[\w.][\w.-]*@[\w.][\w.-]*:.+"  # alice@example.org:path
    r"|(?!-)(?![\w+.-]+://)(?!\w[\w+.-]*::).+"  # a folder, never NAME::... which runs a command
)


def init_bare(folder: Path) -> Path:
    """Make an empty repository to push to."""
    folder.mkdir(parents=True, exist_ok=True)
    call(folder, ["init", "--quiet", "--bare", "--initial-branch=main"]).must_succeed()
    return folder


def clone(url: str, into: Path) -> History:
    """Copy a registry's history; the bytes come later.

    Raises:
        LoraregError: an address that could run a command, or a folder that is not empty.
        ExternalToolError: it cannot be reached, or is no git repository.
    """
    if not URL.fullmatch(url) or any(ord(letter) < 32 for letter in url):
        raise LoraregError(
            f"{url!r} is not an address lorareg clones from",
            why="allowed: https://, ssh://, git://, file://, user@host:path, a folder",
            fix="write it as https://example.org/team/registry.git",
        )
    if into.exists() and not (into.is_dir() and not any(into.iterdir())):
        raise LoraregError(f"{into} is not an empty folder", fix="choose a new folder")
    into = into.resolve()
    call(
        Path.cwd(), [*NO_COMMANDS_IN_URLS, "clone", "--quiet", "--", url, str(into)]
    ).must_succeed()
    return History(into)
