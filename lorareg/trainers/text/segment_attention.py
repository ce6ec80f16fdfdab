"""Attention of rows that stand in one sequence: each row by itself, as if it were alone.

A dense mask over the whole sequence would make attention cost the square of its length. So the
sequence is split where rows end, and each part goes through the attention function the model had:
the library's, or the model's own where it caps scores or has a sink. The masks are the library's
too, asked for each part: a sliding window is the same as in a row that was never packed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.import_utils import is_tracing

NAME = "lorareg-segments-"  # what follows is the implementation for each part: sdpa or eager
INNER = ("sdpa", "eager")
# On the CPU the backward of torch's fused attention is slow in bfloat16: a step of SmolLM2 on 2 x
# 256 tokens takes 2.6 CPU s with it, 1.8 with plain matrix products (float32: 3.8 and 4.0).
PLAIN_ATTENTION_TOKENS = 512

_LENGTHS: ContextVar[tuple[int, ...]] = ContextVar("lengths of the rows in a sequence", default=())


@dataclass(frozen=True)
class Segments:
    """What stands in the place of an attention mask.

    Attributes:
        lengths: tokens of each row, in order; they fill the sequence.
        masks: of each row, as its implementation wants it; None where it is simply causal.
        ways: of each row, "sdpa" or "eager".
    """

    lengths: tuple[int, ...]
    masks: tuple[torch.Tensor | None, ...]
    ways: tuple[str, ...]


@contextmanager
def of_lengths(lengths: Sequence[int]) -> Iterator[None]:
    """Within the block the model is given one sequence of rows of these lengths; () is no rows."""
    token = _LENGTHS.set(tuple(lengths))
    try:
        yield
    finally:
        _LENGTHS.reset(token)


def install(model: Any) -> None:
    """Let a model attend by segments inside ``of_lengths``, and as before outside of it."""
    for inner in INNER:
        AttentionInterface.register(NAME + inner, segment_attention)
        AttentionMaskInterface.register(NAME + inner, segment_masks)
    model.set_attn_implementation(NAME + model.config._attn_implementation)


def segment_masks(**asked: Any) -> Any:
    """``Segments`` for the rows of ``of_lengths``; else the mask that the model would get.

    Args:
        asked: what transformers asks of a mask function: ``mask_function``, lengths, offsets.
    """
    inner = _inner(asked["config"])
    lengths = _LENGTHS.get()
    if not lengths:
        return ALL_MASK_ATTENTION_FUNCTIONS[inner](**asked)
    short_is_plain = asked["device"].type == "cpu" and asked["dtype"] != torch.float32
    masks, ways, start = [], [], 0
    for length in lengths:
        plain = short_is_plain and length <= PLAIN_ATTENTION_TOKENS
        ways.append("eager" if plain else inner)
        own = {"q_length": length, "kv_length": length, "q_offset": start, "kv_offset": start}
        masks.append(_mask(ways[-1], {**asked, **own, "batch_size": 1}))
        start += length
    return Segments(lengths, tuple(masks), tuple(ways))


def segment_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Segments | torch.Tensor | None,
    **asked: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attention by rows.

    Args:
        module: the attention layer.
        query: (1, heads, T, width).
        key: the same, with its own number of heads.
        value: as the key.
        attention_mask: from ``segment_masks``.
        asked: scaling, dropout, softcap: whatever the layer hands to its implementation.

    Returns:
        (1, T, heads, width), and no probabilities.
    """
    if not isinstance(attention_mask, Segments):
        attend = _function(module, _inner(module.config))
        return attend(module, query, key, value, attention_mask, **asked)  # type: ignore[no-any-return]
    lengths = list(attention_mask.lengths)
    parts = zip(
        *(torch.split(each, lengths, 2) for each in (query, key, value)),
        attention_mask.masks,
        attention_mask.ways,
        strict=True,
    )
    heads = [
        _function(module, way)(module, q, k, v, mask, **asked)[0] for q, k, v, mask, way in parts
    ]
    return torch.cat(heads, dim=1), None


def _mask(way: str, asked: dict[str, Any]) -> torch.Tensor | None:
    """The library's mask of one row; None where the implementation is causal without one."""
    mask = ALL_MASK_ATTENTION_FUNCTIONS[way](**{**asked, "allow_is_causal_skip": False})
    if way == "eager":
        return mask  # type: ignore[no-any-return]
    # a rehearsal (``trainers.machine.rehearsal``) has no values to look at
    if is_tracing(mask) or torch.equal(mask, torch.ones_like(mask).tril()):
        return None
    return mask  # type: ignore[no-any-return]


def _function(module: torch.nn.Module, way: str) -> Callable[..., Any]:
    """An implementation; the plain one is the model's own, beside the class of its layers."""
    if way == "eager":
        own: Callable[..., Any] = sys.modules[type(module).__module__].eager_attention_forward
        return own
    return ALL_ATTENTION_FUNCTIONS[way]  # type: ignore[no-any-return]


def _inner(config: Any) -> str:
    return str(config._attn_implementation).removeprefix(NAME)
