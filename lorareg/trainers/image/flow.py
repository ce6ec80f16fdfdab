"""Flow matching, as SD3 and Flux are trained (arXiv 2403.03206; 2210.02747).

With x the clean latents, n the noise and s the noise level in [0, 1]:
    noisy = (1 - s) x + s n,   target = n - x,   timestep = 1000 s
Levels are drawn uniform or logit-normal and then shifted towards noise, k s / (1 + (k - 1) s), as
sampling shifts them: by a constant of the base, or by more the larger the picture is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Self

import torch

from lorareg.registry.image_training import Timesteps

STEPS = 1000  # timestep of pure noise


@dataclass(frozen=True)
class DynamicShift:
    """A shift that grows with the picture, as Flux's scheduler has it.

    Attributes:
        tokens: of the smaller and the larger picture that the base was measured with.
        exponents: the shift's logarithm (or the shift itself, if ``linear``) at these.
    """

    tokens: tuple[int, int]
    exponents: tuple[float, float]
    linear: bool

    def at(self, tokens: int) -> float:
        """The shift of a picture of so many tokens."""
        (small, large), (low, high) = self.tokens, self.exponents
        value = low + (high - low) * (tokens - small) / (large - small)
        return value if self.linear else math.exp(value)


@dataclass(frozen=True)
class FlowMatching:
    """The process of a flow-matching base.

    Attributes:
        shift: of the base.
        sampling: of the manifest; its own ``shift`` goes before the base's in training.
    """

    shift: float | DynamicShift
    sampling: Timesteps

    @classmethod
    def of(cls, config: Any, sampling: Timesteps) -> FlowMatching:
        """The process that a diffusers scheduler config describes."""
        shift: float | DynamicShift = float(config.get("shift") or config.get("flow_shift") or 1.0)
        if config.get("use_dynamic_shifting"):
            shift = DynamicShift(
                (config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)),
                (config.get("base_shift", 0.5), config.get("max_shift", 1.15)),
                config.get("time_shift_type") == "linear",
            )
        return cls(shift, sampling)

    def to(self, device: str) -> Self:
        """Nothing here is on a device."""
        return self

    def describe(self) -> str:
        """How noise levels are drawn."""
        how = self.sampling
        drawn: str = how.sampling
        if drawn == "logit-normal":
            drawn += f" (mean {how.mean:g}, std {how.std:g})"
        if how.shift is not None:
            return f"flow matching; noise levels {drawn}, shift {how.shift:g}"
        grows = isinstance(self.shift, DynamicShift)
        shift = "shift by the size of the picture" if grows else f"shift {self.shift:g} of the base"
        return f"flow matching; noise levels {drawn}, {shift}"

    def timestep(self, quantile: float, tokens: int) -> float:
        """The timestep at a quantile of the levels as the manifest draws them."""
        level = quantile
        if self.sampling.sampling == "logit-normal":
            # 0 is the one quantile that a normal distribution does not have
            normal = NormalDist(self.sampling.mean, self.sampling.std)
            level = 1 / (1 + math.exp(-normal.inv_cdf(max(quantile, 2**-53))))
        return STEPS * shifted(level, self.sampling.shift or self.base_shift(tokens))

    def fixed_timestep(self, quantile: float, tokens: int) -> float:
        """The timestep at a quantile of uniform levels, shifted as the base samples."""
        return STEPS * shifted(quantile, self.base_shift(tokens))

    def base_shift(self, tokens: int) -> float:
        """The base's own shift for a picture of so many tokens."""
        return self.shift.at(tokens) if isinstance(self.shift, DynamicShift) else self.shift

    def noisy(self, clean: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Latents at timesteps ``t`` (shape (B,)); all others (B, C, H, W)."""
        level = (t / STEPS).reshape(-1, *[1] * (clean.ndim - 1))
        return (1 - level) * clean + level * noise

    def target(self, clean: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The velocity from the picture to the noise."""
        return noise - clean

    def loss_weight(self, t: torch.Tensor, gamma: float | None) -> torch.Tensor:
        """One each: how often a level is drawn is its weight."""
        return torch.ones_like(t)


def shifted(level: float, shift: float) -> float:
    """A noise level moved towards noise (a shift above 1) or away from it.

    >>> shifted(0.5, 3.0)
    0.75
    """
    return shift * level / (1 + (shift - 1) * level)
