"""Frozen linear layers and convolutions that compute through ``kernels``.

They are PyTorch's own layers with another ``forward``. Weights stay under their names with their
values, so whatever reads them (a tied embedding, PEFT, a pipeline) still can.
"""

from __future__ import annotations

from typing import Any, cast

import torch

from lorareg.trainers.packed.kernels import DIRECT_NUMEL, Direct, Kernel, Product
from lorareg.trainers.packed.windows import Window

OUTPUTS = 16  # of a weight laid out at a time: 0.7 MB of 1280 channels, which the cache holds


class Frozen(torch.autograd.Function):
    """Output rows of a frozen layer: a gradient for its values alone, no activation kept."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, kernel: Kernel) -> torch.Tensor:
        """See ``Kernel.forward``."""
        ctx.kernel, ctx.shape = kernel, values.shape
        return kernel.forward(values)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """See ``Kernel.backward``."""
        return ctx.kernel.backward(gradient.contiguous(), ctx.shape), None


class FrozenLinear(torch.nn.Linear):
    """A linear layer that computes through a kernel."""

    kernel: Product

    @staticmethod
    def take_over(layer: torch.nn.Linear) -> None:
        """Make a layer one of this class; its weight must never change from now on."""
        layer.__class__ = FrozenLinear
        cast(FrozenLinear, layer).kernel = Product(layer.weight, layer.bias)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Values (..., in) to (..., out)."""
        rows = _rows(input.to(self.weight.dtype), self.kernel)
        return rows.view(*input.shape[:-1], self.out_features)


class FrozenConv2d(torch.nn.Conv2d):
    """A convolution that computes through a kernel."""

    kernel: Product | Direct

    @staticmethod
    def take_over(layer: torch.nn.Conv2d) -> None:
        """Make a layer one of this class; its weight must never change from now on."""
        pairs = layer.kernel_size, layer.stride, layer.padding
        window = Window(*cast(tuple[tuple[int, int], ...], pairs))
        small = layer.weight.numel() < DIRECT_NUMEL
        layer.__class__ = FrozenConv2d
        taken = cast(FrozenConv2d, layer)
        if small and window.keeps_size and not window.is_one_pixel:
            taken.kernel = Direct(layer.weight, layer.bias, window)
        else:
            if not layer.weight.is_contiguous(memory_format=torch.channels_last):
                _lay_channels_last(layer)
            taken.kernel = Product(layer.weight, layer.bias, window)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Pictures (B, in, h, w) to (B, out, h', w'), in channels_last memory."""
        pixels = input.to(self.weight.dtype).permute(0, 2, 3, 1)
        return self.pictures(_rows(pixels, self.kernel), input.shape)

    def pictures(self, rows: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Output rows for pictures of some shape, as pictures."""
        size = self.kernel.window.output(shape[2], shape[3])
        return rows.view(shape[0], *size, self.out_channels).permute(0, 3, 1, 2)


def _rows(values: torch.Tensor, kernel: Kernel) -> torch.Tensor:
    if torch.is_grad_enabled() and values.requires_grad:
        rows: torch.Tensor = Frozen.apply(values, kernel)  # type: ignore[no-untyped-call]
        return rows
    return kernel.forward(values)


def _lay_channels_last(layer: torch.nn.Conv2d) -> None:
    """Reorder the memory of a convolution's weight, in place and a few outputs at a time.

    Fresh memory for two gigabytes of weights would take longer to get than to fill.
    """
    weight = layer.weight.detach()
    out, channels, high, wide = weight.shape
    laid = weight.view(out, high, wide, channels)
    for some, wanted in zip(torch.split(weight, OUTPUTS), torch.split(laid, OUTPUTS), strict=True):
        wanted.copy_(some.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format))
    layer.weight.data = laid.permute(0, 3, 1, 2)
