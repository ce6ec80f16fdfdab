"""LoRA over a frozen layer as one node of the graph.

PEFT computes base(x) + up(down(x)) x scaling in a dozen nodes. The math is the same here, in the
base's dtype, from the adapter's float32 weights. Whatever is not that plain sum (dropout at work,
adapters disabled or merged, arguments of PEFT's) goes PEFT's own way, over the frozen layer.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners import lora

from lorareg.trainers.adapters.peft_layers import NAME
from lorareg.trainers.packed.kernels import Kernel
from lorareg.trainers.packed.layers import FrozenConv2d, FrozenLinear
from lorareg.trainers.packed.products import product


class Adapted(torch.autograd.Function):
    """Output rows of a frozen layer with LoRA."""

    @staticmethod
    def forward(
        ctx: Any,
        values: torch.Tensor,
        down: torch.Tensor,
        up: torch.Tensor,
        kernel: Kernel,
        scaling: float,
    ) -> torch.Tensor:
        """Rows (N, out) for values and the factors as PEFT holds them."""
        low, high = down.to(values.dtype), up.flatten(1).to(values.dtype)
        rows = kernel.forward(values)
        inner = kernel.narrow(values, low)
        ctx.save_for_backward(values, inner, low, high)
        ctx.kernel, ctx.scaling, ctx.up_shape = kernel, scaling, up.shape
        return rows.addmm_(inner, high.t(), alpha=scaling)

    @staticmethod
    def backward(
        ctx: Any, gradient: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor, None, None]:
        """Gradients of the values, ``down`` and ``up``."""
        values, inner, low, high = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_up = product(inner.t(), gradient.t()).t().float().mul_(ctx.scaling)
        of_inner = product(gradient, high.t()).mul_(ctx.scaling)
        of_values, of_down = ctx.kernel.backward_of_both(
            gradient, of_inner, values, low, ctx.needs_input_grad[0]
        )
        return of_values, of_down.float(), of_up.reshape(ctx.up_shape), None, None


class AdaptedLinear(lora.Linear):  # type: ignore[misc]  # PEFT has no types
    """PEFT's LoRA on a linear layer."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Values (..., in) to (..., out)."""
        if args or kwargs or not _is_plain_sum(self):
            result: torch.Tensor = super().forward(x, *args, **kwargs)
            return result
        base: FrozenLinear = self.base_layer
        down, up = self.lora_A[NAME].weight, self.lora_B[NAME].weight
        values = x.to(base.weight.dtype)
        rows = Adapted.apply(values, down, up, base.kernel, self.scaling[NAME])  # type: ignore[no-untyped-call]
        return rows.view(*x.shape[:-1], base.out_features)  # type: ignore[no-any-return]


class AdaptedConv2d(lora.Conv2d):  # type: ignore[misc]  # PEFT has no types
    """PEFT's LoRA on a convolution: ``down`` has its kernel, ``up`` sees one pixel."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Pictures (B, in, h, w) to (B, out, h', w')."""
        if args or kwargs or not _is_plain_sum(self):
            result: torch.Tensor = super().forward(x, *args, **kwargs)
            return result
        base: FrozenConv2d = self.base_layer
        down, up = self.lora_A[NAME].weight, self.lora_B[NAME].weight
        values = x.to(base.weight.dtype).permute(0, 2, 3, 1)
        rows = Adapted.apply(values, down, up, base.kernel, self.scaling[NAME])  # type: ignore[no-untyped-call]
        return base.pictures(rows, x.shape)


def _is_plain_sum(layer: Any) -> bool:
    dropout = layer.lora_dropout[NAME]
    return (
        not layer.disable_adapters
        and not layer.merged_adapters
        and layer.active_adapters == [NAME]
        and not layer.lora_variant  # DoRA
        and not (dropout.training and isinstance(dropout, torch.nn.Dropout))
    )
