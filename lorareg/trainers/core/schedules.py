"""Learning-rate schedules: pure functions of the step, so that a resumed run needs no state."""

from __future__ import annotations

import math

from lorareg.registry.training import Training


def learning_rate(settings: Training, step: int, total: int) -> float:
    """Rate of optimizer step ``step`` (from 0) out of ``total``: warm-up, then the schedule.

    Every schedule but "constant" falls towards zero, which it would reach at step ``total``; so the
    last step still learns. REX after arXiv 2107.04197, equation 2; the others are those of
    transformers' ``get_scheduler``.
    """
    peak, warmup = settings.learning_rate, settings.warmup_steps
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    left = 1 - progress
    match settings.scheduler:
        case "constant":
            return peak
        case "linear":
            return peak * left
        case "cosine":
            return peak * 0.5 * (1 + math.cos(math.pi * progress))
        case "cosine-restarts":
            within = settings.scheduler_cycles * progress % 1.0
            return peak * 0.5 * (1 + math.cos(math.pi * within))
        case "polynomial":
            return float(peak * left**settings.scheduler_power)
        case "rex":
            return peak * left / (0.5 + 0.5 * left)
