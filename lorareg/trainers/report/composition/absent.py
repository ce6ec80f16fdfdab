"""A part of the report that was not asked for, or cannot be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Absent:
    """Why something is not there, and the command that would bring it.

    Attributes:
        why: a sentence; "not run" if nobody asked.
    """

    why: str
    fix: str = ""
