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
        survival: None where the adapter alone does not gain anything that could survive.
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
    gains = (base - solo)[rows].mean(axis=1)
    learned = bool(np.quantile(gains, (1 - LEVEL) / 2) > 0)
    kept = (base - composed)[rows].mean(axis=1)
    without = losses.get("without")
    return Survival(
        ref=ref,
        records=len(base),
        losses={name: float(values.mean()) for name, values in losses.items()},
        survival=_interval((base - composed).mean() / (base - solo).mean(), kept / gains)
        if learned
        else None,
        attribution=None
        if without is None
        else _interval((without - composed).mean(), (without - composed)[rows].mean(axis=1)),
    )


def headline(found: list[Survival]) -> float | None:
    """The least survival of all members; None if one cannot be measured."""
    values = [each.survival.value for each in found if each.survival]
    return min(values) if len(values) == len(found) else None


def _resamples(count: int) -> NDArray[np.int64]:
    """Rows of records drawn with replacement; the first is not special, the seed is fixed."""
    return np.random.default_rng(SEED).integers(count, size=(RESAMPLES, count))


def _interval(value: float, resampled: Losses) -> Interval:
    tail = (1 - LEVEL) / 2
    low, high = (float(x) for x in np.quantile(resampled, [tail, 1 - tail]))
    return Interval(float(value), low, high)
