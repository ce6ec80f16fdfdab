"""Where a checked dataset is, and where what is known of it is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lorareg.registry.digest import DigestCache

Stage = Callable[[str, int, int], None]
"""Told what is being done, how much of it, and of how much."""


@dataclass(frozen=True)
class Place:
    """Where a dataset is, and where its digests and measures are remembered.

    Attributes:
        path: folder or .jsonl file.
        name: as messages call it.
        cache: folder of the registry's cache, or of the user's.
    """

    path: Path
    name: str
    cache: Path

    @property
    def digests(self) -> DigestCache:
        """As ``Workspace.digests``."""
        return DigestCache(self.cache / "digests.sqlite")
