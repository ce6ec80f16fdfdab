"""Where an export goes: nothing that is not an export gives way to it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lorareg.errors import LoraregError
from lorareg.registry.files import sync_folder
from lorareg.registry.workspace import Workspace
from lorareg.weights.formats import peft

OWN = frozenset({peft.WEIGHTS, peft.CONFIG})
"""What an exported PEFT folder holds, and all that another one may replace."""


def check(workspace: Workspace, target: Path, *, folder: bool) -> None:
    """Refuse a place that holds something else, before any weights are read.

    Args:
        workspace: the registry, whose own files an export never replaces.
        target: file or folder to be written.
        folder: whether it becomes a folder.

    Raises:
        LoraregError: the registry's own place, or a folder and a file in each other's place.
    """
    if target.resolve().is_relative_to(workspace.root.resolve() / "manifests"):
        raise LoraregError(
            f"{target.name} would be among the registry's own files",
            why="weights/ and locks under manifests/ belong together; an export would break them",
            fix="name a place outside manifests/: --out exports/NAME",
        )
    if not folder and target.is_dir():
        raise LoraregError(
            f"{target.name} is a folder, and this form is a file",
            fix=f"name the file in it: --out {target.name}/NAME",
        )
    if folder and target.exists():
        _check_folder(target)


def _check_folder(target: Path) -> None:
    if not (target / peft.CONFIG).is_file():
        raise LoraregError(
            f"{target.name} is there already and no PEFT folder",
            fix="name another: --out FOLDER",
        )
    strangers = sorted(path.name for path in target.iterdir() if path.name not in OWN)
    if strangers:
        raise LoraregError(
            f"{target.name} holds more than an exported adapter",
            why=f"the whole folder would be replaced, and with it {', '.join(strangers[:5])}",
            fix="name another: --out FOLDER",
        )


@contextmanager
def kept_if_proved(target: Path, ending: str = ".safetensors") -> Iterator[Path]:
    """A place beside the target; what is there when all went well takes the target's name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".lorareg-", dir=target.parent) as scratch:
        # diffusers goes by the ending, whatever the target is called
        made = Path(scratch) / f"export{ending}"
        yield made
        old = Path(scratch) / "before"
        if target.is_dir() and made.is_dir():
            target.rename(old)
        try:
            os.replace(made, target)
        except OSError:
            if old.is_dir():
                old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    sync_folder(target.parent)
