"""Group norm over pixels in channels_last memory, in bfloat16."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812


class _Normalized(torch.autograd.Function):
    """Group norm in float32 of bfloat16 values, which are all that is kept."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, norm: FrozenGroupNorm) -> torch.Tensor:
        """Values (B, C, ...), normalized and scaled."""
        ctx.save_for_backward(values)
        ctx.norm = norm
        return norm.in_float32(values.float()).to(values.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Gradient of the values.

        The norm is computed again, which costs less than its float32 values in memory. PyTorch's
        own backward kernel must not be called alone: it reads a gradient as if it lay in memory as
        the values do, and a gradient may lie otherwise.
        """
        (values,) = ctx.saved_tensors
        with torch.enable_grad():
            own = values.float().requires_grad_()
            made = ctx.norm.in_float32(own)
        (of_values,) = torch.autograd.grad(made, own, gradient.float())
        return of_values.to(values.dtype), None


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

    def in_float32(self, values: torch.Tensor) -> torch.Tensor:
        """The same of float32 values, without rounding."""
        weight, bias = self.weight.float(), self.bias.float()
        return F.group_norm(values, self.num_groups, weight, bias, self.eps)
