"""Noise, loss weights and learning rate over a run: pure functions of the step.

The denoiser predicts velocity [1] under a schedule whose last step is pure noise [2], with min-SNR
loss weights [3].

Source: [1] arXiv:2202.00512, [2] arXiv:2305.08891, [3] arXiv:2303.09556.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from diffusers import DDPMScheduler

TIMESTEPS = 1000
SNR_CAP = 5.0
WEIGHT_FLOOR = 0.1
"""Min-SNR gives pure noise the weight 0, but sampling starts there, settling colours."""


def noise_schedule() -> DDPMScheduler:
    """1,000 steps, zero terminal SNR, velocity prediction."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(
        num_train_timesteps=TIMESTEPS,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        clip_sample=False,
    )


def loss_weights(schedule: DDPMScheduler) -> torch.Tensor:
    """Min-SNR weights in their velocity form, min(snr, cap)/(snr + 1), mean 1: float32 (1000,)."""
    signal: torch.Tensor = schedule.alphas_cumprod
    snr = signal / (1 - signal).clamp(min=1e-8)
    weights = (snr.clamp(max=SNR_CAP) / (snr + 1)).clamp(min=WEIGHT_FLOOR)
    return weights / weights.mean()


def spread_timesteps(count: int, generator: torch.Generator) -> torch.Tensor:
    """Timesteps int64 (count,), one in each of `count` equal slices of 0..999: less noisy steps."""
    import torch

    slices = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    steps = (slices * TIMESTEPS).long().clamp(max=TIMESTEPS - 1)
    return steps[torch.randperm(count, generator=generator)]


def rate(done: float, peak: float, warmup: float, floor: float) -> float:
    """Learning rate when `done` of the run, 0 to 1, is behind.

    Linear up to `peak` over the share `warmup`, then half a cosine down to `floor * peak`.

    >>> [rate(done, 1.0, 0.1, 0.2) for done in (0.0, 0.05, 0.1, 1.0)]
    [0.0, 0.5, 1.0, 0.2]
    """
    if done < warmup:
        return peak * done / warmup
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warmup) / (1 - warmup))))
    return peak * (floor + (1 - floor) * cosine)
