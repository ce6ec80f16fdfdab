"""What ``lorareg data`` is pointed at: an adapter's dataset, a folder, or a .jsonl file."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorareg.errors import InvalidFileError, LoraregError, NotFoundError
from lorareg.registry.ids import Ref
from lorareg.registry.workspace import Workspace

if TYPE_CHECKING:
    from lorareg.registry.manifest import ImageManifest, TextManifest


ROWS = (".jsonl", ".json")  # of .json, who reads the rows says how to make .jsonl of it


@dataclass(frozen=True)
class Target:
    """A dataset, with the manifest that uses it if it was named by one.

    Attributes:
        path: folder or .jsonl file.
        name: as messages call it: "data/char_zhangsan".
    """

    path: Path
    name: str
    manifest: ImageManifest | TextManifest | None = None
    workspace: Workspace | None = None


def resolve(text: str) -> Target:
    """Find a dataset by REF or path; what exists as a path is a path.

    Raises:
        NotFoundError: neither an asset nor a path.
        InvalidFileError: a file that is no .jsonl.
    """
    path = Path(text)
    if path.is_file() and path.suffix.lower() not in ROWS:
        raise InvalidFileError(
            f"{text} is no dataset",
            why="a dataset is a folder of pictures with captions, or .jsonl of dialogues",
            fix=f"name its folder: {shlex.quote(str(path.parent))}",
        )
    if path.exists():
        return Target(path, text.rstrip("/"))
    try:
        ref = Ref.parse(text)
        workspace = Workspace.find()
        manifest = workspace.load_manifest(workspace.find_asset(ref))
    except LoraregError as error:
        raise NotFoundError(
            f"there is no dataset {text!r}",
            why=f"no file or folder has this name, and as an adapter: {error.what}",
            fix="name a folder, a .jsonl file, or an adapter that lorareg list shows",
        ) from error
    return Target(workspace.dataset(manifest), manifest.dataset.path, manifest, workspace)
