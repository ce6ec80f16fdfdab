"""Survival: the share of what an adapter learned that a composition keeps.

survival = (base - composed) / (base - solo), in losses of the adapter's own held-out records;
attribution = without it - composed: what the composition would lose if it were left out. All four
are measured on the same records with the same noise, so they are compared record by record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Losses = NDArray[np.float64]
"""One mean loss a record, in the order of the records."""

MIN_RECORDS = 5  # so many gains of one sign come by chance once in 32 times
RESAMPLES = 2000
LEVEL = 0.95
SEED = 20_240


@dataclass(frozen=True)
class Interval:
    """An estimate and its bootstrap interval, the middle 95 percent of resamples."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Survival:
    """How one member fares.

    Attributes:
        records: number of held-out records.
        losses: mean loss of "base", "solo", "composed" and, in company, "without".
        survival: None where it cannot be measured: the adapter alone has no gain that could
            survive, or none that so few records could tell from chance.
        attribution: loss without it less the loss of the composition; None if it is alone.
    """

    ref: str
    records: int
    losses: Mapping[str, float]
    survival: Interval | None
    attribution: Interval | None


def judge(ref: str, losses: Mapping[str, Losses]) -> Survival:
    """Survival and attribution of a member, with intervals over its records.

    Args:
        ref: of the member.
        losses: of "base", "solo" and "composed", and of "without" where other members are left.
    """
    base, solo, composed = (losses[name] for name in ("base", "solo", "composed"))
    rows = _resamples(len(base))
    gains, kept = ((base - other)[rows].mean(axis=1) for other in (solo, composed))
    survival = attribution = None
    if len(base) >= MIN_RECORDS and np.quantile(gains, (1 - LEVEL) / 2) > 0:
        some = gains > 0
        share = (base - composed).mean() / (base - solo).mean()
        survival = _interval(share, kept[some] / gains[some])
    if "without" in losses:
        worse = losses["without"] - composed
        attribution = _interval(worse.mean(), worse[rows].mean(axis=1))
    means = {name: float(values.mean()) for name, values in losses.items()}
    return Survival(ref, len(base), means, survival, attribution)


def headline(found: list[Survival]) -> float | None:
    """The least survival of all members; None if one cannot be measured."""
    values = [each.survival.value for each in found if each.survival]
    return min(values) if len(values) == len(found) else None


def _resamples(count: int) -> NDArray[np.int64]:
    """Rows of records drawn with replacement, the same every time."""
    return np.random.default_rng(SEED).integers(count, size=(RESAMPLES, count))


def _interval(value: float, resampled: Losses) -> Interval:
    tail = (1 - LEVEL) / 2
    low, high = (float(x) for x in np.quantile(resampled, [tail, 1 - tail]))
    return Interval(float(value), low, high)
