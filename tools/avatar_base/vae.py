"""The autoencoder: 64x64 pixels to 16x16x8 latents and back.

Trained on permissive drawings only, a fifth of them ink line art so that thin strokes survive.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tools.avatar_base import checkpoints, corpus, schedule
from tools.avatar_base.checkpoints import Record

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL

_INK = ("open-peeps", "notionists")
_SHARES = {"portrait": 0.6, "ink": 0.22, "emoji": 0.18}
"""Share of each kind in a batch."""


@dataclass(frozen=True)
class Shape:
    """Sizes; the defaults give 0.71 M parameters."""

    channels: tuple[int, ...] = (32, 32, 64)
    latent_channels: int = 8
    groups: int = 8


@dataclass(frozen=True)
class Plan:
    """One training run of `steps` batches of square crops, `crop` pixels wide."""

    steps: int = 4700
    batch: int = 32
    crop: int = 32
    learning_rate: float = 2.5e-3
    warmup: float = 0.03
    floor: float = 0.02
    divergence: float = 1e-3
    decay: float = 0.998
    seed: int = 0
    log_every: int = 50
    save_every: int = 500


def build(shape: Shape, seed: int = 0) -> AutoencoderKL:
    """A fresh autoencoder, one fourth of the side, no attention."""
    import torch
    from diffusers import AutoencoderKL

    torch.manual_seed(seed)
    depth = len(shape.channels)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * depth,
        up_block_types=("UpDecoderBlock2D",) * depth,
        block_out_channels=shape.channels,
        layers_per_block=1,
        latent_channels=shape.latent_channels,
        norm_num_groups=shape.groups,
        mid_block_add_attention=False,
        sample_size=64,
    )


def sampling_weights(sources: np.ndarray) -> np.ndarray:
    """Probability of each picture, (N,): kinds by `_SHARES`, even inside a kind."""
    ink, emoji = np.isin(sources, _INK), np.isin(sources, corpus.EMOJI_SETS)
    kinds = np.select([ink, emoji], ["ink", "emoji"], "portrait")
    weights = np.zeros(len(sources))
    for kind, share in _SHARES.items():
        chosen = kinds == kind
        if chosen.any():
            weights[chosen] = share / chosen.sum()
    total: float = weights.sum()
    return weights / total


def crops(images: np.ndarray, weights: np.ndarray, step: int, plan: Plan) -> torch.Tensor:
    """One batch, float32 (B, 3, crop, crop) in [-1, 1], a function of (seed, step).

    Half are mirrored; a fifth have their colour channels permuted, so that colours no portrait has
    (purple hair) decode as well as the others.
    """
    import torch

    random = np.random.default_rng([plan.seed, step])
    chosen = random.choice(len(images), plan.batch, p=weights)
    room = images.shape[1] - plan.crop + 1
    corners = random.integers(0, room, (plan.batch, 2))
    batch = np.stack(
        [
            images[index, top : top + plan.crop, left : left + plan.crop]
            for index, (top, left) in zip(chosen, corners.tolist(), strict=True)
        ]
    )
    for index in range(plan.batch):
        if random.random() < 0.5:
            batch[index] = batch[index, :, ::-1].copy()
        if random.random() < 0.2:
            batch[index] = batch[index][..., random.permutation(3)]
    return torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 127.5 - 1


class Trainer:
    """An autoencoder, its optimizer and moving average, and how far they are."""

    def __init__(self, shape: Shape, plan: Plan) -> None:
        """Start from fresh weights."""
        import torch

        self.plan, self.vae = plan, build(shape, plan.seed)
        self.networks = {"vae": self.vae}
        self.parameters = checkpoints.named(self.networks)
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.optimizer = torch.optim.AdamW(
            self.vae.parameters(),
            lr=plan.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=1e-4,
            fused=True,
        )
        self.progress = checkpoints.Progress()

    def resume(self, path: Path) -> None:
        """Continue where a checkpoint stopped."""
        average, self.progress = checkpoints.load(path, self.networks, self.optimizer)
        self.average = {name: average[name] for name in self.parameters}

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        checkpoints.save(path, self.networks, self.average, self.optimizer, self.progress)

    def step(self, images: np.ndarray, weights: np.ndarray) -> float:
        """One optimizer step on one batch; returns the mean squared error (pixels in [-1, 1])."""
        import torch
        from torch.nn import functional

        started, step, plan = time.monotonic(), self.progress.step, self.plan
        for group in self.optimizer.param_groups:
            group["lr"] = schedule.rate(
                step / plan.steps, plan.learning_rate, plan.warmup, plan.floor
            )
        pixels = crops(images, weights, step, plan)
        generator = torch.Generator().manual_seed(plan.seed * 10**9 + step)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = self.vae.encode(pixels).latent_dist
            redrawn = self.vae.decode(posterior.sample(generator)).sample.float()
            divergence = posterior.kl().mean() / posterior.mean[0].numel()
        squared = functional.mse_loss(redrawn, pixels)
        loss = (redrawn - pixels).abs().mean() + 0.5 * squared
        loss = loss + 0.5 * edge_error(redrawn, pixels) + plan.divergence * divergence
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.vae.parameters(), 1.0)
        self.optimizer.step()
        decay = min(plan.decay, (1 + step) / (10 + step))
        latest = [parameter.detach() for parameter in self.parameters.values()]
        torch._foreach_lerp_(list(self.average.values()), latest, 1 - decay)
        self.progress.step += 1
        self.progress.seconds += time.monotonic() - started
        return float(squared.detach())

    def write(self, folder: Path, scaling_factor: float = 1.0) -> None:
        """Save the averaged weights as a diffusers folder."""
        import torch

        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(self.average[name])
        self.vae.register_to_config(scaling_factor=scaling_factor)
        self.vae.save_pretrained(folder)


def edge_error(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Mean absolute error of the differences between neighbouring pixels: keeps strokes sharp."""
    across = (first - second).diff(dim=-1).abs().mean()
    down = (first - second).diff(dim=-2).abs().mean()
    return across + down


def train(
    trainer: Trainer, images: np.ndarray, sources: np.ndarray, checkpoint: Path, log: Path
) -> Iterator[Record]:
    """Train to the end of the plan; yields and appends one record per log line."""
    weights, errors = sampling_weights(sources), []
    with log.open("a", encoding="utf-8") as lines:
        while trainer.progress.step < trainer.plan.steps:
            errors.append(trainer.step(images, weights))
            step = trainer.progress.step
            if step % trainer.plan.log_every == 0:
                record: Record = {
                    "stage": "autoencoder",
                    "step": step,
                    "seconds": round(trainer.progress.seconds, 1),
                    "psnr": round(psnr(float(np.mean(errors))), 2),
                }
                errors.clear()
                lines.write(json.dumps(record) + "\n")
                lines.flush()
                yield record
            if step % trainer.plan.save_every == 0:
                trainer.save(checkpoint)
        trainer.save(checkpoint)


def encode(vae: AutoencoderKL, images: np.ndarray, batch: int = 64) -> torch.Tensor:
    """Latent means, float32 (N, C, 16, 16), not scaled."""
    import torch

    means = []
    with torch.no_grad():
        for start in range(0, len(images), batch):
            pixels = torch.from_numpy(images[start : start + batch]).permute(0, 3, 1, 2)
            means.append(vae.encode(pixels.float() / 127.5 - 1).latent_dist.mean)
    return torch.cat(means)


def decode(vae: AutoencoderKL, latents: torch.Tensor, batch: int = 64) -> np.ndarray:
    """Pictures uint8 (N, 64, 64, 3) of unscaled latents."""
    import torch

    with torch.no_grad():
        pixels = torch.cat([vae.decode(part).sample for part in torch.split(latents, batch)])
    shown = ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte()
    return shown.permute(0, 2, 3, 1).numpy()


def reconstruction_psnr(vae: AutoencoderKL, images: np.ndarray) -> float:
    """Peak signal-to-noise ratio of pictures that went through the autoencoder, dB."""
    redrawn = decode(vae, encode(vae, images)).astype(np.float64)
    error = float(((redrawn - images) ** 2).mean()) / 127.5**2
    return psnr(error)


def psnr(squared_error: float) -> float:
    """Decibels of a mean squared error of pixels in [-1, 1] (peak 2).

    >>> round(psnr(0.01), 2)
    26.02
    """
    return 10 * math.log10(4 / max(squared_error, 1e-12))
