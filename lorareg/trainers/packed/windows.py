"""Which pixels a convolution sees, and their neighbourhoods as rows of a matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Window:
    """Kernel, stride and padding of a convolution; pairs are (height, width).

    The default is one pixel, which makes the convolution a linear layer.
    """

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)

    @property
    def is_one_pixel(self) -> bool:
        """Whether it is a linear layer."""
        return self == Window()

    @property
    def keeps_size(self) -> bool:
        """Whether as many pixels come out as go in, however many these are."""
        wide = all(2 * p == k - 1 for p, k in zip(self.padding, self.kernel, strict=True))
        return wide and self.stride == (1, 1)

    def output(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that come out."""
        return (
            (height + 2 * self.padding[0] - self.kernel[0]) // self.stride[0] + 1,
            (width + 2 * self.padding[1] - self.kernel[1]) // self.stride[1] + 1,
        )

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        """The neighbourhoods of pixels (B, h, w, C) as rows (B x h' x w', kernel x C).

        One-pixel windows take values (..., C) of any shape.
        """
        if self.is_one_pixel:
            return values.reshape(-1, values.shape[-1])
        batch, height, width, channels = values.shape
        above, left = self.padding
        padded = values.new_zeros(batch, height + 2 * above, width + 2 * left, channels)
        padded[:, above : above + height, left : left + width] = values
        image, line, pixel, _ = padded.stride()
        seen = padded.as_strided(
            (batch, *self.output(height, width), self.kernel[0], self.kernel[1] * channels),
            (image, self.stride[0] * line, self.stride[1] * pixel, line, 1),
        )
        return seen.reshape(-1, self.kernel[0] * self.kernel[1] * channels)

    def scatter(self, rows: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """The transpose of ``gather``: adds each neighbourhood to the pixels it was taken from.

        Sums are float32 whatever the rows are: nine roundings to bfloat16 would show.
        """
        if self.is_one_pixel:
            return rows.view(shape)
        batch, height, width, channels = shape
        above, left = self.padding
        down, right = self.stride
        high, wide = self.output(height, width)
        parts = rows.view(batch, high, wide, *self.kernel, channels)
        padded = torch.zeros(batch, height + 2 * above, width + 2 * left, channels)
        for y in range(self.kernel[0]):
            for x in range(self.kernel[1]):
                bottom, end = y + down * (high - 1) + 1, x + right * (wide - 1) + 1
                padded[:, y:bottom:down, x:end:right] += parts[:, :, :, y, x]
        return padded[:, above : above + height, left : left + width].to(rows.dtype)
