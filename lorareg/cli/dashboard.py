"""The live view of one training run: a few lines, drawn again and again in the same place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lorareg.trainers.core.watching import StepFacts
from lorareg.trainers.report.standing import Standing, clock_text, sparkline

GB = 1e9
LABEL = 10  # columns of the words at the left
ASCII_LEVELS = "_.-~=+*#"


@dataclass(frozen=True)
class Usage:
    """Bytes of memory in use."""

    resident: int
    device: tuple[int, int] | None = None


@dataclass
class Dashboard:
    """A rich renderable that shows a run as it stands when it is drawn.

    Attributes:
        title: of the run.
        standing: replaced after every event.
        usage: asked whenever it is drawn.
    """

    title: str
    standing: Standing
    usage: Callable[[], Usage]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lines that fit the width: facts that do not fit are left out, the last ones first."""
        facts = self.standing.facts
        if facts is None:
            return
        width = options.max_width
        yield from _head(self.title, facts, width)
        for label, words in self._lines(facts, width, options.ascii_only):
            line = Text(f"{label:<{LABEL}}", style="dim", no_wrap=True, overflow="crop")
            line.append(_fitting(words, width - LABEL), style="not dim")
            yield line

    def _lines(
        self, facts: StepFacts, width: int, ascii_only: bool
    ) -> Iterator[tuple[str, Sequence[str]]]:
        standing = self.standing
        loss = f"{facts.loss:.4f}"
        room = max(0, width - LABEL - len(loss) - 2)
        levels = (ASCII_LEVELS,) if ascii_only else ()
        yield "loss", [loss, sparkline(standing.losses[-room:] if room else (), *levels)]
        if standing.last is not None:
            yield "held out", _held_out(standing)
        yield "speed", [speed(standing), f"{standing.step_seconds:.2f} s/step"]
        yield "rate", [f"{facts.rate:.2e}", f"gradient norm {facts.norm:.3g}"]
        left = standing.seconds_left or 0.0
        yield "time", [f"{clock_text(left)} left", f"{clock_text(standing.elapsed)} gone"]
        yield "memory", _memory(self.usage())


def speed(standing: Standing) -> str:
    """``12.4 images/s``."""
    unit = standing.facts.unit if standing.facts else "image"
    return f"{standing.speed:.3g} {unit}s/s" if standing.speed < 1000 else _whole(standing, unit)


def _whole(standing: Standing, unit: str) -> str:
    return f"{standing.speed:.0f} {unit}s/s"


def _head(title: str, facts: StepFacts, width: int) -> Iterator[Text | Table]:
    """Title and step, and a bar below them where there is room for one line only."""
    count = f"{facts.step}/{facts.total}"
    percent = f"{100 * facts.step / facts.total:3.0f} %"
    used = len(title) + len(count) + len(percent) + 6
    bar = ProgressBar(total=facts.total, completed=facts.step, width=max(8, width - used))
    if width - used < 8:
        yield Text(f"{title}  {count}", style="bold", no_wrap=True, overflow="ellipsis")
        return
    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_row(Text(title, style="bold"), count, bar, percent)
    yield line


def _held_out(standing: Standing) -> list[str]:
    words = [f"{standing.last:.4f}"]
    if standing.best:
        step, loss = standing.best
        words.append(f"best {loss:.4f} at step {step}")
        if standing.base:
            words.append(f"base {standing.base:.4f} ({100 * (loss / standing.base - 1):+.1f} %)")
    return words


def _memory(usage: Usage) -> list[str]:
    words = [f"{usage.resident / GB:.1f} GB"]
    if usage.device:
        held, there = usage.device
        words.append(f"GPU {held / GB:.1f} of {there / GB:.1f} GB")
    return words


def _fitting(words: Sequence[str], width: int) -> str:
    """As many words as fit, two spaces between them; the first always."""
    line = words[0]
    for word in words[1:]:
        if len(line) + 2 + len(word) > width:
            break
        line += f"  {word}"
    return line
