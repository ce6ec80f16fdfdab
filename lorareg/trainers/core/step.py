"""One optimizer step up to its gradient: forward, backward, sum, clip; NaN goes no further."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lorareg.errors import TrainingError
from lorareg.trainers.core import checkpoints
from lorareg.trainers.core.forward import Setup, shares
from lorareg.trainers.core.ladder import noticing_memory


@dataclass(frozen=True)
class Gradient:
    """What is known of a step whose gradient stands in the parameters.

    Attributes:
        loss: mean over the step's loss terms.
        norm: of the gradient, before clipping.
        units: loss terms.
    """

    loss: float
    norm: float
    units: int


def gradient(setup: Setup, step: int, limit: int | None = None) -> Gradient:
    """Compute the gradient of a step: a pure function of the step and the weights.

    Args:
        setup: what to compute with.
        step: its number, from 0.
        limit: the most records of a forward pass, where memory is short.

    Raises:
        OutOfMemory: nothing but gradients was changed; the step can be begun again.
        TrainingError: the loss or the gradient is not finite.
    """
    ranks, parameters = setup.ranks, list(setup.parameters.values())
    batches = setup.plan.micro_batches(step, setup.draws)
    units = sum(setup.task.weight(record) for batch in batches for record in batch)
    part = ranks.together(lambda: _accumulate(setup, step, batches, units, limit))
    (loss,) = ranks.summed([part])
    ranks.sum_gradients(parameters)
    most = setup.settings.max_grad_norm or math.inf
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, most))
    records = [record for batch in batches for record in batch]
    ranks.together(lambda: check_finite(setup, norm, f"gradient of step {step + 1}", records))
    return Gradient(loss, norm, units)


def _accumulate(
    setup: Setup, step: int, batches: Sequence[Sequence[str]], units: int, limit: int | None
) -> float:
    """Gradients of this process's share; returns its part of the mean loss."""
    draws = setup.draws.at("train", step)
    setup.adapters.train(True)
    for parameter in setup.parameters.values():
        parameter.grad = None
    total = 0.0
    for share in shares(batches, setup.ranks, limit):
        torch.manual_seed(draws.key("dropout", *share.name))
        with noticing_memory():
            with setup.computing():
                loss = setup.task.losses(share.records, draws).sum() / units
            value = float(loss.detach())
            check_finite(setup, value, f"loss of step {step + 1}", share.records)
            loss.backward()  # type: ignore[no-untyped-call]
        total += value
    return total


def check_finite(setup: Setup, value: float, what: str, records: Sequence[str]) -> None:
    """Refuse to go on with a value that is not a number.

    Raises:
        TrainingError: names the records, and the checkpoints that are left untouched.
    """
    if math.isfinite(value):
        return
    lower = "" if setup.runtime.dtype == "float32" else ", or set train.precision: fp32"
    raise TrainingError(
        f"the {what} is {value}",
        why=f"records: {', '.join(records)}; "
        + checkpoints.described(setup.folder / "checkpoints"),
        fix=f"look at these records, or lower train.learning_rate{lower}; "
        "lorareg train goes on from the last checkpoint, with --from-step N from another one",
    )
