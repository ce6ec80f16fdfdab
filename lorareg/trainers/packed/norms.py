"""Group norm over pixels in channels_last memory, in bfloat16."""

from __future__ import annotations

from typing import Any

import torch


class _Normalized(torch.autograd.Function):
    """Group norm in float32 of bfloat16 values, which are all that is kept."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, norm: FrozenGroupNorm) -> torch.Tensor:
        """Values (B, C, ...), normalized and scaled."""
        sizes = (values.shape[0], values.shape[1], values[0, 0].numel(), norm.num_groups)
        made, mean, scale = torch.native_group_norm(
            values.float(), norm.weight.float(), norm.bias.float(), *sizes, norm.eps
        )
        ctx.save_for_backward(values, mean, scale)
        ctx.norm, ctx.sizes = norm, sizes
        return made.to(values.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Gradient of the values."""
        values, mean, scale = ctx.saved_tensors
        made, *_ = torch.ops.aten.native_group_norm_backward(
            gradient.float(), values.float(), mean, scale, ctx.norm.weight.float(), *ctx.sizes,
            [True, False, False],
        )  # fmt: skip
        return made.to(values.dtype), None


class FrozenGroupNorm(torch.nn.GroupNorm):
    """A group norm whose scale is not trained.

    The convolutions here leave channels_last memory, for which PyTorch's group norm is 6 to 13
    times slower in bfloat16 than in float32: a tenth of a step of a small base.
    """

    @staticmethod
    def take_over(norm: torch.nn.GroupNorm) -> None:
        """Make a norm one of this class."""
        norm.__class__ = FrozenGroupNorm

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Values (B, C, ...), normalized and scaled."""
        if input.dtype is not torch.bfloat16:
            return super().forward(input)
        made: torch.Tensor = _Normalized.apply(input, self)  # type: ignore[no-untyped-call]
        return made
