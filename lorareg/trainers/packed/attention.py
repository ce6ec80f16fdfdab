"""Attention over few tokens, in bfloat16, by plain matrix products."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0

SHORT = 512 * 512  # query times key tokens up to which plain products are faster


class ShortAttention(AttnProcessor2_0):  # type: ignore[misc]  # diffusers is not typed
    """Keeps the probabilities of short attention for the backward pass.

    PyTorch's fused attention computes them again there, 1.5 to 4 times slower in bfloat16 on a CPU
    up to 512 tokens; at 64 pixels that was a tenth of a step. In float32 it is as fast.
    """

    def __init__(self) -> None:
        super().__init__()
        self._plain = AttnProcessor()

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Attend, by whichever way is faster for so many tokens."""
        queries = hidden_states.flatten(2).shape[2] if hidden_states.ndim == 4 else None
        queries = queries or hidden_states.shape[1]
        keys = queries if encoder_hidden_states is None else encoder_hidden_states.shape[1]
        way = self._plain if queries * keys <= SHORT else super().__call__
        attended: torch.Tensor = way(
            attn, hidden_states, encoder_hidden_states, attention_mask, temb, *args, **kwargs
        )
        return attended


def shorten(model: torch.nn.Module) -> None:
    """Let the attention of a diffusers model be computed so where it is the usual one."""
    for module in model.modules():
        if isinstance(module, Attention) and _is_usual(module):
            module.set_processor(ShortAttention())


def _is_usual(attention: Any) -> bool:
    return (
        type(attention.processor) is AttnProcessor2_0
        and attention.norm_q is None
        and attention.norm_k is None
        and not attention.upcast_attention
        and not attention.upcast_softmax
    )
