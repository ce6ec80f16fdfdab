"""Settings of the person who runs the tests stay out of them, and the other way round."""

from __future__ import annotations

from pathlib import Path

import pytest


def dvc_apart(patch: pytest.MonkeyPatch, home: Path) -> None:
    """DVC's settings and its memory of remotes lie in ``home``."""
    for name in ("DVC_SITE_CACHE_DIR", "DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR"):
        patch.setenv(name, str(home / name))


def git_apart(patch: pytest.MonkeyPatch, home: Path) -> None:
    """Git reads no settings but a registry's own, and those of a file in ``home``."""
    patch.setenv("GIT_CONFIG_GLOBAL", str(home / "gitconfig"))
    patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
