"""Where bytes go: remembered by each clone, so that nobody else's commit sends them elsewhere.

``.dvc/config`` and ``lorareg.yaml`` say it, and no statement covers them. As with a host's key,
what is seen first is trusted and kept in git's settings; another address later is a question.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from lorareg.errors import IntegrityError, listed
from lorareg.registry.access import authority
from lorareg.registry.git.command import call
from lorareg.registry.workspace import Workspace

REMOTE, AUDIENCE = "lorareg-remote", "lorareg-audience"


def confirm(workspace: Workspace) -> None:
    """Go on only if every remote is where it was when this clone saw it first; keep new ones.

    Nothing is asked in a registry of one.

    Raises:
        IntegrityError: it names old and new address, and what to run if the new one is right.
    """
    if not authority.is_enforced(workspace):
        return
    known, now = _known(workspace.root), _now(workspace)
    moved = {key: place for key, place in now.items() if known.get(key, place) != place}
    if moved:
        files = ".dvc/config lorareg.yaml"
        accept = [f"git config {key} {shlex.quote(place)}" for key, place in moved.items()]
        raise IntegrityError(
            "bytes would go elsewhere than before",
            why="\n" + listed([f"{_said(key)}: {known[key]} -> {moved[key]}" for key in moved]),
            fix=f"see who changed it: git log -p -- {files}; if it is right: {' && '.join(accept)}",
        )
    remember(workspace)


def remember(workspace: Workspace) -> None:
    """Keep where remotes are that this clone has not seen before, and no other address."""
    if not authority.is_enforced(workspace):
        return
    known = _known(workspace.root)
    for key, place in _now(workspace).items():
        if key not in known:
            call(workspace.root, ["config", key, place]).must_succeed()


def _now(workspace: Workspace) -> dict[str, str]:
    """Every remote's address, and the remote of each visibility; keys as git's settings have it."""
    places = {f"{REMOTE}.{name}.url": url for name, url in workspace.store.remotes().items()}
    default = workspace.store.default_remote()
    named = {str(each): name for each, name in workspace.settings.remotes.items()}
    audience = dict.fromkeys(("private", "team", "public"), default) | named
    return places | {f"{AUDIENCE}.{each}.remote": name for each, name in audience.items() if name}


def _known(root: Path) -> dict[str, str]:
    pattern = rf"^({REMOTE}|{AUDIENCE})\."
    found = call(root, ["config", "--local", "-z", "--get-regexp", pattern])
    entries = [entry.partition("\n") for entry in found.text.split("\0") if entry]
    return {key: place for key, _, place in entries}


def _said(key: str) -> str:
    kind, _, rest = key.partition(".")
    name = rest.rpartition(".")[0]
    return f"remote {name}" if kind == REMOTE else f"remote of what is {name}"
