"""How far a transfer is, in bytes; whoever shows it brings a ``Meter``."""

from __future__ import annotations

from typing import Protocol


class Meter(Protocol):
    """Told what is going on; calls may come from several threads."""

    def begin(self, what: str, size: int) -> None:
        """A stretch of work of so many bytes begins."""

    def advance(self, size: int) -> None:
        """So many more bytes are done."""

    def end(self) -> None:
        """The stretch is over."""


class Silent:
    """For whoever does not look."""

    def begin(self, what: str, size: int) -> None:
        """Say nothing."""

    def advance(self, size: int) -> None:
        """Say nothing."""

    def end(self) -> None:
        """Say nothing."""


def spoken(size: int) -> str:
    """Bytes as people say them.

    >>> spoken(999), spoken(204928), spoken(3_400_000_000)
    ('999 B', '204.9 kB', '3.4 GB')
    """
    number, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            break
        number /= 1000
    return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
