"""``lorareg demo``: the guided tour."""

from __future__ import annotations


def demo() -> None:
    """Make a registry and show the whole job on it."""
