"""Gradient checkpointing of frozen models: a block's activations are computed twice, not kept.

Source: Chen et al., "Training deep nets with sublinear memory cost", arXiv 1604.06174.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial, wraps
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint


def enable(models: Iterable[torch.nn.Module]) -> bool:
    """Switch it on wherever a model has blocks made for it; sampling is not changed.

    Returns:
        Whether any model has.
    """
    found = [_of_diffusers(model) or _of_transformers(model) for model in models]
    return any(found)


def _of_diffusers(model: torch.nn.Module) -> bool:
    """Blocks of diffusers ask whether gradients are wanted, not whether the model trains."""
    if not getattr(model, "_supports_gradient_checkpointing", False):
        return False
    model.enable_gradient_checkpointing()  # type: ignore[operator]
    return True


def _of_transformers(model: torch.nn.Module) -> bool:
    """Layers of transformers do it in training mode alone, which would switch dropout on too.

    The model's own switch would also ask for gradients of the embeddings, which nobody needs.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
    for layer in layers:
        layer.forward = _recomputed(layer.forward)
    return bool(layers)


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(forward)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(partial(forward, **kwargs), *args, use_reentrant=False)

    return call
