"""An empty registry as ``lorareg init`` makes it, made once a process and copied: DVC is slow."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from lorareg.registry import setup

NAME = "registry"


def start(root: Path, storage: Path | None = None) -> Path:
    """A registry at ``root``; its bytes go to the folder ``storage``, or stay in it."""
    made = _made(with_storage=storage is not None)
    shutil.copytree(made / NAME, root, dirs_exist_ok=True, symlinks=True)
    if storage is not None:
        config = root / ".dvc/config"
        text = config.read_text(encoding="utf-8")
        assert str(made / "storage") in text
        config.write_text(text.replace(str(made / "storage"), str(storage)), encoding="utf-8")
    return root


@cache
def _made(*, with_storage: bool) -> Path:
    top = Path(tempfile.mkdtemp(prefix="lorareg-")).resolve()
    atexit.register(shutil.rmtree, top, ignore_errors=True)
    setup.init(top / NAME, str(top / "storage") if with_storage else None)
    return top
