"""Making a registry out of a folder."""

from __future__ import annotations

import re
from pathlib import Path

from lorareg.registry.dvc.store import Store
from lorareg.registry.files import write_atomically
from lorareg.registry.git.history import History
from lorareg.registry.workspace import SETTINGS, Workspace

REMOTE = "storage"
LOCAL_STORAGE = ".dvcstore"
IGNORED = ("/.lorareg/",)
TEMPLATE = """\
# Settings of this registry; what `lorareg new` and `lorareg push` start from.
schema: lorareg/1
name: {name}
bases:
  text-to-image: builtin:avatar
  text-generation: builtin:smollm2
# visibility -> DVC remote (dvc remote list); {remote} is the default one
remotes: {{}}
"""


def init(folder: Path, remote: str | None) -> Workspace:
    """Make git, DVC and lorareg ready in a folder; what is there already stays as it is.

    Args:
        folder: made if it does not exist.
        remote: where bytes go (s3://..., ssh://..., a folder); default is a folder in the registry
            that git ignores, good for one machine only.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    history = History(folder)
    history.init()
    store = Store(folder)
    store.init()
    if remote:
        store.add_remote(REMOTE, _absolute(remote), default=True)
    elif store.default_remote() is None:
        store.add_remote(REMOTE, LOCAL_STORAGE, default=True)
        _ignore(folder, f"/{LOCAL_STORAGE}/")
    settings = folder / SETTINGS
    if not settings.exists():
        write_atomically(settings, TEMPLATE.format(name=_slug(folder.name), remote=REMOTE))
    for line in IGNORED:
        _ignore(folder, line)
    for name in ("manifests", "data"):
        (folder / name).mkdir(exist_ok=True)
    return Workspace(folder)


def _absolute(remote: str) -> str:
    """A folder is meant relative to where the person is, not to the registry."""
    return remote if "://" in remote else str(Path(remote).expanduser().resolve())


def _ignore(folder: Path, line: str) -> None:
    path = folder / ".gitignore"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    if line not in lines:
        write_atomically(path, "\n".join([*lines, line]) + "\n")


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_") or "registry"
