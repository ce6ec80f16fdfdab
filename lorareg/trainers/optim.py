"""Optimizer and learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch

from lorareg.registry.training import Training


def optimizer(parameters: Iterable[torch.nn.Parameter], settings: Training) -> torch.optim.AdamW:
    """AdamW (arXiv 1711.05101), fused: one pass over memory instead of a dozen."""
    return torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def learning_rate(settings: Training, step: int, total: int) -> float:
    """Rate of optimizer step ``step`` (from 0) out of ``total``: warm-up, then the schedule.

    A pure function of the step, so that a resumed run needs no scheduler state.
    """
    peak, warmup = settings.learning_rate, settings.warmup_steps
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    match settings.scheduler:
        case "constant":
            return peak
        case "linear":
            return peak * (1 - progress)
        case "cosine":
            return peak * 0.5 * (1 + math.cos(math.pi * progress))


def state_tensors(
    optimizer: torch.optim.Optimizer, names: Mapping[str, torch.nn.Parameter]
) -> dict[str, torch.Tensor]:
    """Moments and step counts by parameter name, for a safetensors file."""
    found = {}
    for name, parameter in names.items():
        for field, value in optimizer.state.get(parameter, {}).items():
            found[f"{name}/{field}"] = torch.as_tensor(value)
    return found


def restore_state(
    optimizer: torch.optim.Optimizer,
    names: Mapping[str, torch.nn.Parameter],
    tensors: Mapping[str, torch.Tensor],
) -> None:
    """Put back what ``state_tensors`` took."""
    for entry, value in tensors.items():
        name, _, field = entry.rpartition("/")
        parameter = names[name]
        # the step count too: the fused kernel reads it on the device of the weights
        optimizer.state[parameter][field] = value.to(parameter.device, copy=True)
