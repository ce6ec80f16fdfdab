"""How a frozen layer, and LoRA beside it, compute their output and their gradients.

PyTorch lays the weight of a convolution out anew in every call, forward and backward; at 64 pixels
that is most of a training step of Stable Diffusion 1.5. Here it is done once.

Large weights (3 x 3 with 1280 channels) are kept once and multiplied with gathered neighbourhoods,
which for few pixels even beats oneDNN's convolution. Small ones get a packed copy for each
direction: they meet many pixels, and gathering these would cost 10 to 20 %.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch._subclasses.fake_tensor import is_fake

from lorareg.trainers.packed.products import product
from lorareg.trainers.packed.windows import Window

DIRECT_NUMEL = 4_000_000  # 640 x 640 x 3 x 3 is below, 1280 x 1280 x 3 x 3 above
NO_DILATION = (1, 1)

Gradients = tuple[torch.Tensor | None, torch.Tensor]  # of the values, if wanted, and of ``down``


class Kernel(Protocol):
    """A frozen layer: values (B, h, w, in), or (..., in) for a linear one, to rows (N, out).

    ``down`` is the first factor of a LoRA: the layer's shape, with the rank for its outputs.
    """

    @property
    def window(self) -> Window:
        """Which values a row is made of."""
        ...

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Output rows, in memory of their own."""
        ...

    def backward(self, gradient: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Gradient of values of a shape, from the contiguous gradient of the rows."""
        ...

    def narrow(self, values: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        """What ``down`` makes of the values: rows (N, rank)."""
        ...

    def backward_of_both(
        self,
        gradient: torch.Tensor,
        inner: torch.Tensor,
        values: torch.Tensor,
        down: torch.Tensor,
        wanted: bool,
    ) -> Gradients:
        """Gradients through the layer and through ``down``.

        Args:
            gradient: of the output rows.
            inner: of the rows of ``narrow``.
            values: as they went in.
            down: as it was.
            wanted: whether a gradient of the values is.
        """
        ...


@dataclass(frozen=True, eq=False)
class Product:
    """A linear layer, or a convolution as one over gathered neighbourhoods.

    Attributes:
        weight: the layer's own: (out, in), or (out, in, kernel height, kernel width) in
            channels_last memory.
        bias: (out,) or None.
        window: one pixel for a linear layer.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    window: Window = Window()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """See ``Kernel``."""
        return product(self.window.gather(values), _matrix(self.weight.detach()), self.bias)

    def backward(self, gradient: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """See ``Kernel``."""
        return self.window.scatter(self._rows(gradient), shape)

    def narrow(self, values: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        """See ``Kernel``."""
        return product(self.window.gather(values), _matrix(down))

    def backward_of_both(
        self,
        gradient: torch.Tensor,
        inner: torch.Tensor,
        values: torch.Tensor,
        down: torch.Tensor,
        wanted: bool,
    ) -> Gradients:
        """See ``Kernel``."""
        matrix = _matrix(down)
        of_down = product(inner.t(), self.window.gather(values).t())
        if down.ndim == 4:
            rank, channels, high, wide = down.shape
            of_down = of_down.view(rank, high, wide, channels).permute(0, 3, 1, 2)
        if not wanted:
            return None, of_down
        rows = self._rows(gradient).addmm_(inner, matrix)
        return self.window.scatter(rows, values.shape), of_down

    def _rows(self, gradient: torch.Tensor) -> torch.Tensor:
        return product(gradient, _matrix(self.weight.detach()).t())


@dataclass(eq=False)
class Direct:
    """A convolution that keeps the size, by oneDNN, from weights packed when first needed.

    The gradient of its pixels is a convolution too: of the gradient, with the kernel turned around
    and inputs and outputs exchanged. oneDNN lays out for the first size it meets; other sizes may
    be slower, and are as right.

    Attributes:
        weight: the layer's own: (out, in, kernel height, kernel width).
        bias: (out,) or None.
        window: of stride 1.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    window: Window
    _ahead: torch.Tensor | None = field(default=None, init=False)
    _back: torch.Tensor | None = field(default=None, init=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """See ``Kernel``."""
        picture = _picture(values)
        if self._ahead is None:
            self._ahead = self._packed(self.weight.detach(), picture.shape)
        return _rows(self._convolved(picture, self._ahead, self.bias))

    def backward(self, gradient: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """See ``Kernel``."""
        picture = _picture(gradient.view(*shape[:3], -1))
        if self._back is None:
            turned = self.weight.detach().flip(2, 3).transpose(0, 1)
            self._back = self._packed(turned, picture.shape)
        return self._convolved(picture, self._back, None).permute(0, 2, 3, 1)

    def narrow(self, values: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        """See ``Kernel``."""
        return _rows(torch.conv2d(_picture(values), down, None, padding=self.window.padding))

    def backward_of_both(
        self,
        gradient: torch.Tensor,
        inner: torch.Tensor,
        values: torch.Tensor,
        down: torch.Tensor,
        wanted: bool,
    ) -> Gradients:
        """See ``Kernel``."""
        through, of_down, _ = torch.ops.aten.convolution_backward(
            _picture(inner.view(*values.shape[:3], -1)), _picture(values), down, None,
            self.window.stride, self.window.padding, NO_DILATION, False, (0, 0), 1,
            (wanted, True, False),
        )  # fmt: skip
        if not wanted:
            return None, of_down
        return self.backward(gradient, values.shape).add_(through.permute(0, 2, 3, 1)), of_down

    def __deepcopy__(self, memo: dict[int, Any]) -> Direct:
        """A copy packs anew: packed tensors cannot be copied."""
        return Direct(deepcopy(self.weight, memo), deepcopy(self.bias, memo), self.window)

    def _packed(self, weight: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        if is_fake(weight):  # a rehearsal asks for shapes only
            return weight
        padding, stride = self.window.padding, self.window.stride
        packed: torch.Tensor = torch.ops.mkldnn._reorder_convolution_weight(
            weight.contiguous(), padding, stride, NO_DILATION, 1, shape
        )
        return packed

    def _convolved(
        self, picture: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        padding, stride = self.window.padding, self.window.stride
        made: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
            picture, weight, bias, padding, stride, NO_DILATION, 1, "none", [], ""
        )
        return made


def _matrix(weight: torch.Tensor) -> torch.Tensor:
    """A weight as (out, kernel x in): a view of a linear one and of channels_last memory."""
    return weight if weight.ndim == 2 else weight.permute(0, 2, 3, 1).flatten(1)


def _picture(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels (B, h, w, C) as (B, C, h, w) in channels_last memory."""
    return pixels.contiguous().permute(0, 3, 1, 2)


def _rows(picture: torch.Tensor) -> torch.Tensor:
    return picture.permute(0, 2, 3, 1).reshape(-1, picture.shape[1])
