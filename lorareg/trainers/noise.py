"""Diffusion targets and loss weights: pure functions of alpha_bar.

With x the clean latents, n the noise and a = alpha_bar(t):
    noisy      = sqrt(a) x + sqrt(1 - a) n
    epsilon    = n                                   (arXiv 2006.11239)
    v          = sqrt(a) n - sqrt(1 - a) x           (arXiv 2202.00512)
    min-SNR    = min(snr, g) / snr for epsilon, min(snr, g) / (snr + 1) for v, snr = a / (1 - a)
                 (arXiv 2303.09556)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from lorareg.errors import TrainingError


@dataclass(frozen=True)
class NoiseSchedule:
    """The forward process of a base model.

    Attributes:
        alpha_bar: float32, shape (steps,), cumulative product of 1 - beta.
        prediction: "epsilon" or "v_prediction".
    """

    alpha_bar: torch.Tensor
    prediction: str

    @classmethod
    def of(cls, config: Any) -> NoiseSchedule:
        """The schedule that a diffusers scheduler config describes.

        Raises:
            TrainingError: a prediction type that is not trained here.
        """
        from diffusers import DDPMScheduler

        prediction = config.get("prediction_type", "epsilon")
        if str(config.get("_class_name")).startswith("FlowMatch") or config.get("use_flow_sigmas"):
            prediction = "flow_prediction"
        if prediction not in ("epsilon", "v_prediction"):
            raise TrainingError(
                f"the base predicts {prediction!r}",
                why="bases that predict epsilon or v_prediction are trained",
                fix="choose a base of Stable Diffusion 1.x, 2.x or SDXL",
            )
        return cls(DDPMScheduler.from_config(config).alphas_cumprod.float(), prediction)

    def to(self, device: str) -> NoiseSchedule:
        """The same schedule on a device, so that no step has to copy it there."""
        return NoiseSchedule(self.alpha_bar.to(device), self.prediction)

    def timestep(self, uniform: float) -> int:
        """The timestep at a quantile in [0, 1)."""
        return int(uniform * len(self.alpha_bar))

    def noisy(self, clean: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Latents at timesteps ``t`` (shape (B,)); all others (B, C, H, W)."""
        a = self._at(t, clean)
        return a.sqrt() * clean + (1 - a).sqrt() * noise

    def target(self, clean: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """What the model should predict, (B, C, H, W)."""
        if self.prediction == "epsilon":
            return noise
        a = self._at(t, clean)
        return a.sqrt() * noise - (1 - a).sqrt() * clean

    def loss_weight(self, t: torch.Tensor, gamma: float | None) -> torch.Tensor:
        """Min-SNR weight of each sample, (B,); ones without a gamma."""
        a = self.alpha_bar[t]
        if gamma is None:
            return torch.ones_like(a)
        # snr is 0 at the last step under zero terminal SNR, where the epsilon form reads 0 / 0
        snr = (a / (1 - a)).clamp(min=1e-8)
        capped = snr.clamp(max=gamma)
        return capped / snr if self.prediction == "epsilon" else capped / (snr + 1)

    def _at(self, t: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return self.alpha_bar[t].reshape(-1, *[1] * (like.ndim - 1))
