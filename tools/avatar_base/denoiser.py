"""Text encoder and denoising UNet, trained jointly from nothing.

Every draw is a function of (seed, purpose, step), so a resumed run equals a straight one.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from tools.avatar_base import checkpoints, schedule, tokenizer
from tools.avatar_base.checkpoints import Record

if TYPE_CHECKING:
    import torch
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

_ORDER, _CAPTION, _NOISE, _INIT = range(4)
"""Purposes of random draws."""


@dataclass(frozen=True)
class Shape:
    """Sizes of both networks; the defaults give 12.0 M + 1.9 M parameters."""

    channels: tuple[int, int, int] = (96, 128, 192)
    groups: int = 16
    latent_channels: int = 8
    latent_side: int = 16
    text_width: int = 256
    text_layers: int = 2


@dataclass(frozen=True)
class Plan:
    """One training run. Steps of `batch` pictures; learning rates are those of the UNet."""

    steps: int = 6000
    batch: int = 32
    learning_rate: float = 1e-3
    warmup: float = 0.03
    floor: float = 0.02
    empty_prompt: float = 0.1
    decay: float = 0.999
    seed: int = 0
    seconds: float = math.inf
    """The cosine also ends after this many seconds, whatever the step."""
    save_every: float = 240.0
    log_every: int = 50


@dataclass(frozen=True)
class Data:
    """Scaled latents, float32 (N, C, h, w), and a function (index, random) -> prompt."""

    latents: torch.Tensor
    prompt: Callable[[int, Random], str]


def build(
    shape: Shape, tokens: CLIPTokenizer, seed: int = 0
) -> tuple[CLIPTextModel, UNet2DConditionModel]:
    """Fresh networks.

    CLIP's own embedding init (0.02) left all prompts nearly equal (cosine .99) after 2,600 joint
    steps; distinct token embeddings (1.0) and positions (0.2) do not collapse.
    """
    import torch
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed * 4 + _INIT)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokens),
            hidden_size=shape.text_width,
            intermediate_size=3 * shape.text_width,
            num_hidden_layers=shape.text_layers,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.LENGTH,
            projection_dim=shape.text_width,
            bos_token_id=tokens.bos_token_id,
            eos_token_id=tokens.eos_token_id,
            pad_token_id=tokens.pad_token_id,
        )
    )
    with torch.no_grad():
        for name, parameter in text.named_parameters():
            if "embedding" in name:
                parameter.normal_(0, 1.0 if "token" in name else 0.2)
    unet = UNet2DConditionModel(
        sample_size=shape.latent_side,
        in_channels=shape.latent_channels,
        out_channels=shape.latent_channels,
        layers_per_block=1,
        block_out_channels=shape.channels,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=shape.text_width,
        attention_head_dim=4,
        norm_num_groups=shape.groups,
    )
    return text, unet


def picks(step: int, count: int, plan: Plan) -> np.ndarray:
    """Indices of one batch, (B,): every picture once an epoch, order drawn per epoch."""
    places = np.arange(step * plan.batch, (step + 1) * plan.batch)
    orders = {
        epoch: np.random.default_rng([plan.seed, _ORDER, epoch]).permutation(count)
        for epoch in np.unique(places // count).tolist()
    }
    return np.array([orders[place // count][place % count] for place in places.tolist()])


class Trainer:
    """Both networks, their optimizer and moving average, and how far they are."""

    def __init__(self, shape: Shape, plan: Plan, tokens: CLIPTokenizer) -> None:
        """Start from fresh weights."""
        import torch

        self.plan, self.tokens = plan, tokens
        self.text, self.unet = build(shape, tokens, plan.seed)
        self.networks = {"text_encoder": self.text, "unet": self.unet}
        self.parameters = checkpoints.named(self.networks)
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.optimizer = torch.optim.AdamW(
            [
                {"params": list(self.text.parameters()), "share": 0.25, "weight_decay": 0.0},
                {"params": list(self.unet.parameters()), "share": 1.0, "weight_decay": 1e-2},
            ],
            lr=plan.learning_rate,
            betas=(0.9, 0.98),
            fused=True,
        )
        self.noising = schedule.noise_schedule()
        self.weights = schedule.loss_weights(self.noising)
        self.progress = checkpoints.Progress()

    def resume(self, path: Path) -> None:
        """Continue where a checkpoint stopped."""
        average, self.progress = checkpoints.load(path, self.networks, self.optimizer)
        self.average = {name: average[name] for name in self.parameters}

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        checkpoints.save(path, self.networks, self.average, self.optimizer, self.progress)

    @property
    def done(self) -> float:
        """Share of the run that is behind, 0 to 1: by steps or by seconds, whichever is further."""
        by_time = self.progress.seconds / self.plan.seconds
        return min(1.0, max(self.progress.step / self.plan.steps, by_time))

    @property
    def rate(self) -> float:
        """The UNet's learning rate now."""
        plan = self.plan
        return schedule.rate(self.done, plan.learning_rate, plan.warmup, plan.floor)

    def step(self, data: Data) -> float:
        """One optimizer step; returns the plain (unweighted) velocity error."""
        import torch

        started, step, plan = time.monotonic(), self.progress.step, self.plan
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * group["share"]
        indices = picks(step, len(data.latents), plan)
        prompts = self._prompts(indices, data, step)
        generator = torch.Generator().manual_seed((plan.seed * 4 + _NOISE) * 10**9 + step)
        clean = data.latents[torch.from_numpy(indices)]
        noise = torch.randn(clean.shape, generator=generator)
        timesteps = schedule.spread_timesteps(plan.batch, generator)
        noisy = self.noising.add_noise(clean, noise, timesteps)
        target = self.noising.get_velocity(clean, noise, timesteps)
        with torch.autocast("cpu", torch.bfloat16):
            guess = self.unet(noisy, timesteps, self.text(prompts)[0]).sample
        errors = ((guess.float() - target) ** 2).mean((1, 2, 3))
        loss = (errors * self.weights[timesteps]).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizer.step()
        decay = min(plan.decay, (1 + step) / (10 + step))
        latest = [parameter.detach() for parameter in self.parameters.values()]
        torch._foreach_lerp_(list(self.average.values()), latest, 1 - decay)
        self.progress.step += 1
        self.progress.seconds += time.monotonic() - started
        return float(errors.mean().detach())

    def _prompts(self, indices: np.ndarray, data: Data, step: int) -> torch.Tensor:
        """Token ids (B, LENGTH); some prompts empty, for classifier-free guidance."""
        random = Random(f"{self.plan.seed}/{_CAPTION}/{step}")
        texts = [
            "" if random.random() < self.plan.empty_prompt else data.prompt(index, random)
            for index in indices.tolist()
        ]
        encoded = self.tokens(texts, padding="max_length", truncation=True, return_tensors="pt")
        ids: torch.Tensor = encoded.input_ids
        return ids


def train(trainer: Trainer, data: Data, checkpoint: Path, log: Path) -> Iterator[Record]:
    """Train to the end of the plan, saving as it goes; yields and appends one record a log line."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    resumed_cpu, saved, losses = time.process_time(), trainer.progress.seconds, []
    # PyTorch 2.13's fused attention on CPU needs 3x the time of plain products for 64 tokens.
    with sdpa_kernel(SDPBackend.MATH), log.open("a", encoding="utf-8") as lines:
        while trainer.done < 1:
            losses.append(trainer.step(data))
            step = trainer.progress.step
            if step % trainer.plan.log_every == 0:
                record: Record = {
                    "stage": "denoiser",
                    "step": step,
                    "seconds": round(trainer.progress.seconds, 1),
                    "cpu_seconds": round(time.process_time() - resumed_cpu, 1),
                    "loss": round(float(np.mean(losses)), 5),
                    "learning_rate": round(trainer.rate, 7),
                }
                losses.clear()
                lines.write(json.dumps(record) + "\n")
                lines.flush()
                yield record
            if trainer.progress.seconds - saved > trainer.plan.save_every:
                trainer.save(checkpoint)
                saved = trainer.progress.seconds
        trainer.save(checkpoint)
