"""DVC's own lock of a registry: held while its cache and pointers are written without it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lorareg.errors import ExternalToolError


@contextmanager
def held(root: Path, patience: float) -> Iterator[None]:
    """Keep ``dvc`` commands (add, gc, checkout ...) out for the length of a block.

    Args:
        root: top of the registry.
        patience: seconds to wait for other DVC processes.

    Raises:
        ExternalToolError: one has held it for longer.
    """
    import zc.lockfile  # type: ignore[import-untyped]

    file = root / ".dvc" / "tmp" / "lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    give_up = time.monotonic() + patience
    while True:
        try:
            lock = zc.lockfile.LockFile(str(file))
            break
        except zc.lockfile.LockError as error:
            if time.monotonic() > give_up:
                raise ExternalToolError(
                    "DVC is busy in this registry",
                    why=f"another process has held its lock for more than {patience:g} seconds",
                    fix="wait for the other DVC process to end, or end it; then run this again",
                ) from error
            time.sleep(0.05)
    try:
        yield
    finally:
        lock.close()
