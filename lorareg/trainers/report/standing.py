"""How a run stands: what a dashboard or a row of a table shows of it. Pure values."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lorareg.trainers.core.watching import StepFacts

POINTS = 60  # losses that are kept for a sparkline
RECENT = 20  # steps over which speed is measured


@dataclass(frozen=True)
class Standing:
    """What is known of a run while it goes; every event makes a new one.

    Attributes:
        facts: of the last step.
        losses: of the last steps, oldest first.
        recent: (units, seconds) of the last steps.
        base: held-out loss of the base, last: of the latest validation.
        best: (step, held-out loss) of the best adapter so far.
        began: clock when the first step that was seen began; first: its number.
        now: clock of the last step.
    """

    facts: StepFacts | None = None
    losses: tuple[float, ...] = ()
    recent: tuple[tuple[int, float], ...] = ()
    base: float | None = None
    last: float | None = None
    best: tuple[int, float] | None = None
    began: float = 0.0
    first: int = 1
    now: float = 0.0

    def stepped(self, facts: StepFacts, clock: float) -> Standing:
        """After an optimizer step that ended at ``clock``, in seconds; another run begins anew."""
        if self.facts is None or facts.step <= self.facts.step:
            fresh = Standing(base=self.base, last=self.last) if self.facts is None else Standing()
            began = clock - facts.seconds
            return fresh._added(facts, clock, began=began, first=facts.step)
        return self._added(facts, clock, began=self.began, first=self.first)

    def validated(self, step: int, loss: float, base: float) -> Standing:
        """After a validation; step 0 measures the base."""
        here = replace(self, last=loss, base=base)
        if step > 0 and (self.best is None or loss < self.best[1]):
            return replace(here, best=(step, loss))
        return here

    @property
    def speed(self) -> float:
        """Pictures or supervised tokens a second."""
        seconds = sum(seconds for _, seconds in self.recent)
        return sum(units for units, _ in self.recent) / seconds if seconds else 0.0

    @property
    def step_seconds(self) -> float:
        """Seconds of a step, validations and samples not counted."""
        return sum(seconds for _, seconds in self.recent) / max(1, len(self.recent))

    @property
    def elapsed(self) -> float:
        """Seconds since the first step that was seen began."""
        return self.now - self.began

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the last step, at the pace so far with everything that happens between."""
        if self.facts is None:
            return None
        done = self.facts.step - self.first + 1
        return self.elapsed / done * (self.facts.total - self.facts.step)

    def _added(self, facts: StepFacts, clock: float, *, began: float, first: int) -> Standing:
        return replace(
            self,
            facts=facts,
            losses=(*self.losses, facts.loss)[-POINTS:],
            recent=(*self.recent, (facts.units, facts.seconds))[-RECENT:],
            began=began,
            first=first,
            now=clock,
        )


def clock_text(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> clock_text(3725.4)
    '1:02:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def sparkline(values: tuple[float, ...], levels: str = "▁▂▃▄▅▆▇█") -> str:
    """One character a value, the lowest and the highest of them at the ends of the scale.

    >>> sparkline((1.0, 2.0, 8.0))
    '▁▂█'
    """
    if not values:
        return ""
    low, high = min(values), max(values)
    scale = (len(levels) - 1) / (high - low) if high > low else 0.0
    return "".join(levels[round((value - low) * scale)] for value in values)
