"""text-to-image: pictures and captions on a Stable Diffusion or SDXL base."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lorareg.errors import TrainingError
from lorareg.registry.base import ResolvedBase
from lorareg.registry.digest import DigestCache
from lorareg.registry.image_training import ImageTraining
from lorareg.registry.manifest import Lora, Sampling
from lorareg.trainers.data.images import ImageRecord
from lorareg.trainers.encoding import Encoder
from lorareg.trainers.inject import module_names
from lorareg.trainers.noise import NoiseSchedule
from lorareg.trainers.pipelines import DiffusionBase
from lorareg.trainers.randomness import Draws
from lorareg.trainers.tasks.base import Runtime, Sample

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
FEED_FORWARD = ("ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")


@dataclass
class _Loaded:
    """What training needs in memory; no autoencoder and no text encoder."""

    runtime: Runtime
    unet: Any
    dtype: torch.dtype  # asking the model walks through all of its modules: 5 ms
    schedule: NoiseSchedule
    latents: dict[str, Mapping[str, torch.Tensor]]
    texts: dict[str, Mapping[str, torch.Tensor]]
    scaling: float


class ImageTask:
    """The task protocol for pictures (see ``tasks.base``).

    Args:
        base: the frozen model.
        records: pictures with captions.
        settings: of the manifest.
        sampling: of the manifest.
        digests: cache of file digests.
        progress: told ("encoding pictures", done, total) while caches fill.
    """

    unit = "image"
    validation_rounds = 4

    def __init__(
        self,
        base: ResolvedBase,
        records: Sequence[ImageRecord],
        settings: ImageTraining,
        sampling: Sampling,
        digests: DigestCache,
        progress: Callable[[str, int, int], None] = lambda what, done, total: None,
    ) -> None:
        self.base = DiffusionBase.of(base)
        self.settings = settings
        self.sampling = sampling
        self.ids = [record.id for record in records]
        self._records = {record.id: record for record in records}
        self._digests = digests
        self._progress = progress
        self._loaded: _Loaded | None = None

    def load(self, runtime: Runtime) -> Mapping[str, torch.nn.Module]:
        """Fill the caches, then load the denoiser alone."""
        encoder = Encoder(self.base, runtime, self._digests, self._progress)
        latents = encoder.pictures(list(self._records.values()), self.settings.resolution)
        texts = encoder.captions({record.caption for record in self._records.values()} | {""})
        dtype = getattr(torch, runtime.dtype)
        unet = self.base.unet(dtype).to(runtime.device)
        unet.requires_grad_(False).eval()
        schedule = NoiseSchedule.of(self.base.scheduler_config()).to(runtime.device)
        self._loaded = _Loaded(runtime, unet, dtype, schedule, latents, texts, encoder.scaling)
        return {"unet": unet}

    def targets(self, lora: Lora) -> list[str]:
        """Linear layers and 1x1 or 3x3 convolutions, chosen by the ends of their names."""
        match lora.targets:
            case "attention":
                endings: Sequence[str] | None = ATTENTION
            case "attention+ff":
                endings = ATTENTION + FEED_FORWARD
            case "all-linear":
                endings = None
            case _:
                endings = tuple(lora.targets)
        return [f"unet.{name}" for name in module_names(self._ready.unet, endings)]

    def shape(self, record: str) -> str:
        """Width and height in pixels."""
        return f"{self.settings.resolution}x{self.settings.resolution}"

    def weight(self, record: str) -> int:
        """Every picture counts once."""
        return 1

    def losses(
        self, records: Sequence[str], draws: Draws, fixed_round: int | None = None
    ) -> torch.Tensor:
        """Mean squared error of each picture's prediction, shape (B,)."""
        ready = self._ready
        device = ready.runtime.device
        rows = [self._noise(record, draws, fixed_round) for record in records]
        clean, noise = (torch.stack(column).to(device) for column in zip(*rows, strict=True))
        t = torch.tensor([self._timestep(r, draws, fixed_round) for r in records], device=device)
        conditions = self._conditions(records, draws, fixed_round)
        noisy = ready.schedule.noisy(clean, noise, t)
        predicted = ready.unet(noisy.to(ready.dtype), t, **conditions).sample
        target = ready.schedule.target(clean, noise, t)
        error: torch.Tensor = (predicted.float() - target).square().mean(dim=(1, 2, 3))
        if fixed_round is not None:
            return error
        return error * ready.schedule.loss_weight(t, self.settings.min_snr_gamma)

    def sample(self, prompts: Sequence[str], seed: int) -> list[Sample]:
        """One picture a prompt, each from its own generator on the CPU."""
        ready = self._ready
        pipeline = self.base.pipeline(ready.dtype, unet=ready.unet).to(ready.runtime.device)
        return draw(pipeline, prompts, seed, self.sampling, self.settings.resolution)

    @property
    def _ready(self) -> _Loaded:
        if self._loaded is None:
            raise TrainingError("the task is not loaded")
        return self._loaded

    def _noise(
        self, record: str, draws: Draws, fixed_round: int | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        latent = self._ready.latents[record]
        mean, logvar = latent["mean"], latent["logvar"]
        clean = mean
        if fixed_round is None:
            clean = mean + (0.5 * logvar).exp() * draws.normal(mean.shape, "posterior", record)
        return clean * self._ready.scaling, draws.normal(mean.shape, "noise", record)

    def _timestep(self, record: str, draws: Draws, fixed_round: int | None) -> int:
        if fixed_round is None:
            return self._ready.schedule.timestep(draws.uniform("timestep", record))
        return self._ready.schedule.timestep((fixed_round + 0.5) / self.validation_rounds)

    def _conditions(
        self, records: Sequence[str], draws: Draws, fixed_round: int | None
    ) -> dict[str, Any]:
        ready = self._ready
        texts = [ready.texts[self._caption(r, draws, fixed_round)] for r in records]
        device, dtype = ready.runtime.device, ready.dtype
        embeds = torch.stack([text["embeds"] for text in texts])
        conditions: dict[str, Any] = {"encoder_hidden_states": embeds.to(device, dtype)}
        if self.base.family == "sdxl":
            pooled = torch.stack([text["pooled"] for text in texts])
            times = torch.stack([self._time_ids(record) for record in records])
            conditions["added_cond_kwargs"] = {
                "text_embeds": pooled.to(device, dtype),
                # not rounded to bfloat16, which would call a side of 1023 pixels 1024
                "time_ids": times.to(device),
            }
        return conditions

    def _caption(self, record: str, draws: Draws, fixed_round: int | None) -> str:
        dropped = draws.uniform("caption_dropout", record) < self.settings.caption_dropout
        return "" if fixed_round is None and dropped else self._records[record].caption

    def _time_ids(self, record: str) -> torch.Tensor:
        """SDXL micro-conditioning: original size, crop corner, target size (arXiv 2307.01952)."""
        side = self.settings.resolution
        frame = self._ready.latents[record]["frame"].float()
        return torch.cat([frame, torch.tensor([side, side], dtype=torch.float32)])


def draw(
    pipeline: Any, prompts: Sequence[str], seed: int, sampling: Sampling, side: int
) -> list[Sample]:
    """Generate one picture a prompt; equal seeds start from equal noise, whatever the prompt."""
    samples = []
    for prompt in prompts:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            picture = pipeline(
                prompt,
                height=side,
                width=side,
                num_inference_steps=sampling.steps,
                guidance_scale=sampling.guidance,
                generator=generator,
            ).images[0]
        samples.append(Sample(prompt, seed, picture))
    return samples
