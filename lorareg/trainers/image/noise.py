"""How noise is added and what is predicted: diffusion here, flow matching in ``flow``.

Pure functions of alpha_bar. With x the clean latents, n the noise and a = alpha_bar(t):
    noisy      = sqrt(a) x + sqrt(1 - a) n
    epsilon    = n                                   (arXiv 2006.11239)
    v          = sqrt(a) n - sqrt(1 - a) x           (arXiv 2202.00512)
    min-SNR    = min(snr, g) / snr for epsilon, min(snr, g) / (snr + 1) for v, snr = a / (1 - a)
                 (arXiv 2303.09556)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import torch

from lorareg.errors import TrainingError
from lorareg.trainers.core.randomness import Draws


class Process(Protocol):
    """A way from clean latents to noise, and what a model says on the way back."""

    def to(self, device: str) -> Self:
        """The same process on a device, so that no step has to copy it there."""
        ...

    def describe(self) -> str:
        """What the model predicts, and which noise it is shown."""
        ...

    def timestep(self, quantile: float, tokens: int) -> float:
        """The timestep of a training step at a quantile in [0, 1).

        Args:
            quantile: uniform, when drawn.
            tokens: how many the denoiser reads the picture as; the noise level may depend on it.
        """
        ...

    def fixed_timestep(self, quantile: float, tokens: int) -> float:
        """The timestep of validation at a quantile: the same whatever a run's settings are."""
        ...

    def noisy(self, clean: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Latents at timesteps ``t`` (shape (B,)); all others (B, C, H, W)."""
        ...

    def target(self, clean: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """What the model should predict, (B, C, H, W)."""
        ...

    def loss_weight(self, t: torch.Tensor, gamma: float | None) -> torch.Tensor:
        """Min-SNR weight of each sample, (B,); ones without a gamma."""
        ...


@dataclass(frozen=True)
class NoiseSchedule:
    """The diffusion process of a base model.

    Attributes:
        alpha_bar: float32, shape (steps,), cumulative product of 1 - beta.
        prediction: "epsilon" or "v_prediction".
    """

    alpha_bar: torch.Tensor
    prediction: str

    @classmethod
    def of(cls, config: Any, *, zero_terminal_snr: bool = False) -> NoiseSchedule:
        """The schedule that a diffusers scheduler config describes.

        Args:
            config: of the base's scheduler.
            zero_terminal_snr: rescale it so that the last step is pure noise (arXiv 2305.08891,
                algorithm 1), as ``rescale_betas_zero_snr`` in the config does too.

        Raises:
            TrainingError: a prediction type that is not trained here.
        """
        from diffusers import DDPMScheduler

        prediction = prediction_of(config)
        if prediction not in ("epsilon", "v_prediction"):
            raise TrainingError(
                f"the base predicts {prediction!r}",
                why="bases of this shape are trained where they predict epsilon or v_prediction",
                fix="choose another base, or correct prediction_type in its scheduler config",
            )
        changes = {"rescale_betas_zero_snr": True} if zero_terminal_snr else {}
        schedule = DDPMScheduler.from_config(config, **changes)
        return cls(schedule.alphas_cumprod.float(), prediction)

    def to(self, device: str) -> Self:
        """The same schedule on a device."""
        return replace(self, alpha_bar=self.alpha_bar.to(device))

    def describe(self) -> str:
        """What the model predicts, and whether its last step is pure noise."""
        ends = "; the last timestep is pure noise" if not self.alpha_bar[-1] else ""
        return f"predicts {self.prediction.removesuffix('_prediction')}{ends}"

    def timestep(self, quantile: float, tokens: int) -> int:
        """The timestep at a quantile in [0, 1)."""
        return int(quantile * len(self.alpha_bar))

    def fixed_timestep(self, quantile: float, tokens: int) -> int:
        """The same."""
        return self.timestep(quantile, tokens)

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


def prediction_of(config: Any) -> str:
    """What a base with this scheduler config predicts."""
    if str(config.get("_class_name")).startswith("FlowMatch") or config.get("use_flow_sigmas"):
        return "flow_prediction"
    return str(config.get("prediction_type", "epsilon"))


def drawn_noise(shape: torch.Size, draws: Draws, key: str, offset: float) -> torch.Tensor:
    """Noise for one picture.

    Args:
        shape: (C, h, w).
        draws: place of the step.
        key: of the picture.
        offset: standard deviation of a shift of each whole channel; with it, pictures that are
            dark or bright all over can be learned.
    """
    noise = draws.normal(shape, "noise", key)
    if not offset:
        return noise
    return noise + offset * draws.normal((shape[0], 1, 1), "noise_offset", key)
