"""The three steps of a version number, and what is said for each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Level = Literal["patch", "minor", "major"]
LEVELS: tuple[Level, ...] = get_args(Level)
"""From the smallest step to the largest."""
FIRST = "v1.0.0"


@dataclass(frozen=True)
class Reason:
    """One difference to the release before, and the step it asks for."""

    level: Level
    text: str

    def __str__(self) -> str:
        return f"{self.level}: {' '.join(self.text.split())}"


def highest(reasons: Iterable[Reason]) -> Level | None:
    """The largest step that any reason asks for; None without a reason."""
    return max((reason.level for reason in reasons), key=LEVELS.index, default=None)


def following(version: str, level: Level) -> str:
    """The version one step after another (semver.org, rules 6 to 8).

    >>> following("v1.4.2", "minor"), following("v1.4.2", "major"), following("v1.4.2", "patch")
    ('v1.5.0', 'v2.0.0', 'v1.4.3')
    """
    major, minor, patch = (int(part) for part in version.removeprefix("v").split("."))
    if level == "major":
        return f"v{major + 1}.0.0"
    return f"v{major}.{minor + 1}.0" if level == "minor" else f"v{major}.{minor}.{patch + 1}"
