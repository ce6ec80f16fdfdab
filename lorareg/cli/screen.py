"""A part of the terminal that is drawn again and again; where there is none, nothing is drawn."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live

PLAIN_SECONDS = 10.0  # between two lines where there is no terminal
FRAMES = 4  # a second


class Screen:
    """What shows work while it goes on is one of these, for as long as its block lasts.

    Args:
        console: to draw on.
        drawn: from the beginning; None begins with nothing.
    """

    def __init__(self, console: Console, drawn: RenderableType | None = None) -> None:
        self._console = console
        self._is_live = console.is_terminal and not console.is_dumb_terminal
        self._live = Live(drawn, console=console, refresh_per_second=FRAMES)

    def __enter__(self) -> Self:
        if self._is_live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._is_live:
            self._live.stop()
