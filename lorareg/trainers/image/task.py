"""text-to-image: pictures and captions on a diffusion or flow-matching base."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from lorareg.errors import TrainingError
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.digest import DigestCache
from lorareg.registry.image_training import ImageTraining, Timesteps
from lorareg.registry.manifest import Lora
from lorareg.registry.sampling import Sampling
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Runtime, Sample
from lorareg.trainers.data.images import ImageRecord
from lorareg.trainers.image.drawing import draw
from lorareg.trainers.image.families.family import Conditions
from lorareg.trainers.image.flow import FlowMatching
from lorareg.trainers.image.inputs import Batch, ImageInputs
from lorareg.trainers.image.keys import refuse_misfits
from lorareg.trainers.image.noise import NoiseSchedule, Process, drawn_noise
from lorareg.trainers.image.pipelines import DiffusionBase
from lorareg.trainers.image.targets import denoiser_targets, encoder_targets
from lorareg.trainers.image.text_embeddings import CaptionReader, TextEmbeddings
from lorareg.trainers.machine.rehearsal import Pass
from lorareg.trainers.packed import shelf


@dataclass
class _Loaded:
    """What training needs in memory; no autoencoder and no frozen text encoder.

    Attributes:
        dtype: of the denoiser; asking the model walks through all of its modules: 5 ms.
        scale: factor that gives latents unit variance, after ``shift`` is taken off.
    """

    runtime: Runtime
    denoiser: Any
    dtype: torch.dtype
    process: Process
    texts: TextEmbeddings
    scale: float
    shift: float

    @property
    def encoders(self) -> dict[str, Any]:
        """The text encoders that learn."""
        return {part: encoder.model for part, encoder in self.texts.live.items()}


class ImageTask:
    """The task protocol for pictures (see ``tasks.base``).

    Args:
        base: the frozen model.
        records: pictures with captions.
        settings: of the manifest.
        sampling: of the manifest.
        digests: cache of file digests.
        progress: told ("encoding pictures", done, total) while caches fill.
        class_pictures: for ``settings.prior``.
        text_encoder: whether the CLIP text encoders get adapters too.
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
        *,
        class_pictures: Sequence[ImageRecord] = (),
        text_encoder: bool = False,
    ) -> None:
        self.base = DiffusionBase.of(base)
        self.settings = settings
        self.sampling = sampling
        self.inputs = ImageInputs(self.base, records, settings, digests, progress, class_pictures)
        self.ids = self.inputs.ids
        self._digests = digests
        self._progress = progress
        self._learning = text_encoder
        self._loaded: _Loaded | None = None

    def load(self, runtime: Runtime) -> Mapping[str, torch.nn.Module]:
        """Fill the caches, then load the denoiser, and the text encoders that learn."""
        refuse_misfits(
            self.base, self.settings, {record: self._size(record) for record in self.ids}
        )
        self.inputs.encode(runtime)
        reader = CaptionReader(self.base, runtime, self._digests, self._progress)
        clips = [one.encoder for one in self.base.readers if one.is_clip]
        texts = reader.read(self.inputs.texts(), clips if self._learning else ())
        dtype = getattr(torch, runtime.dtype)
        denoiser = shelf.denoiser(self.base, runtime, self._digests).to(runtime.device)
        denoiser.requires_grad_(False).eval()
        vae = self.base.vae_config()
        self._loaded = _Loaded(
            runtime, denoiser, dtype, self._process().to(runtime.device), texts,
            # 0.18215 where an old config lacks it
            scale=float(vae.get("scaling_factor", 0.18215)),
            shift=float(vae.get("shift_factor") or 0.0),
        )  # fmt: skip
        return {self.base.architecture.component: denoiser, **self._loaded.encoders}

    def describe(self) -> list[str]:
        """The family, what it predicts, which encoders learn; then what it learns from."""
        ready, family = self._ready, self.base.architecture
        said = [f"base: {family.title}, {ready.process.describe()}"]
        if ready.encoders:
            frozen = [f"{part} stays frozen" for part in ready.texts.kept]
            said.append("; ".join([f"adapters also on {', '.join(ready.encoders)}", *frozen]))
        if self.settings.zero_terminal_snr:
            said.append(
                "sample with rescale_betas_zero_snr and timestep_spacing 'trailing', as the "
                "samples of this run are"
            )
        return [*said, *self.inputs.describe()]

    def targets(self, lora: Lora) -> list[str]:
        """Linear layers and convolutions of the denoiser, then of the encoders that learn."""
        family, ready = self.base.architecture, self._ready
        found = {family.component: denoiser_targets(ready.denoiser, family, lora)}
        found |= {part: encoder_targets(model, lora) for part, model in ready.encoders.items()}
        return [f"{part}.{name}" for part, names in found.items() for name in names]

    def shape(self, record: str) -> str:
        """Width and height in pixels."""
        return self.inputs.shape(record)

    def weight(self, record: str) -> int:
        """Every picture counts once."""
        return 1

    def losses(
        self, records: Sequence[str], draws: Draws, fixed_round: int | None = None
    ) -> torch.Tensor:
        """Mean squared error of each picture's prediction, and of the class picture beside it.

        Returns:
            Shape (B,).
        """
        ready, device = self._ready, self._ready.runtime.device
        batch = self.inputs.batch(records, draws, fixed_round)
        offset = self.settings.noise_offset if fixed_round is None else 0.0
        clean = ((batch.clean - ready.shift) * ready.scale).to(device)
        noise = torch.stack([drawn_noise(clean.shape[1:], draws, k, offset) for k in batch.keys])
        noise = noise.to(device)
        t = torch.tensor(self._timesteps(batch, draws, fixed_round), device=device)
        noisy = ready.process.noisy(clean, noise, t).to(ready.dtype)
        conditions = self._conditions(batch)
        predicted = self.base.architecture.predict(ready.denoiser, noisy, t, conditions)
        error = (predicted.float() - ready.process.target(clean, noise, t)).square()
        if batch.mask is not None:
            error = error * batch.mask.to(device)
        rows = error.mean(dim=(1, 2, 3)) * batch.weights.to(device)
        if fixed_round is None:
            rows = rows * ready.process.loss_weight(t, self.settings.min_snr_gamma)
        owners = torch.tensor(batch.owners, device=device)
        return torch.zeros(len(records), device=device).index_add(0, owners, rows)

    def rehearsal(self, count: int) -> Pass:
        """A forward pass of the largest pictures, on copies of the models."""
        ready, device, family = self._ready, self._ready.runtime.device, self.base.architecture
        largest = max(self.ids, key=lambda record: math.prod(self._size(record)))
        batch = self.inputs.batch([largest] * count, Draws(0))
        kept = replace(ready.texts, live={}).batch(batch.texts)

        def forward(models: Mapping[str, torch.nn.Module]) -> torch.Tensor:
            learning = {
                part: replace(encoder, model=models[part]).read(batch.texts, device)
                for part, encoder in ready.texts.live.items()
            }
            read = {
                part: {name: value.to(ready.dtype) for name, value in fields.items()}
                for part, fields in learning.items()
            }
            noisy, t = batch.clean.to(device, ready.dtype), torch.zeros(len(batch.keys))
            told = Conditions(
                kept | read, batch.frames.to(device), guidance=self.settings.guidance_embed
            )
            found = family.predict(models[family.component], noisy, t.to(device), told)
            return found.float().square().mean()

        return forward

    def measured(self) -> dict[str, float]:
        """Nothing but the loss is measured."""
        return {}

    def sample(self, prompts: Sequence[str], seed: int) -> list[Sample]:
        """One picture a prompt, each from its own generator on the CPU."""
        ready = self._ready
        parts = {self.base.architecture.component: ready.denoiser, **ready.encoders}
        pipeline = self.base.pipeline(ready.dtype, **parts).to(ready.runtime.device)
        return draw(pipeline, prompts, seed, self.sampling, self.settings)

    @property
    def _ready(self) -> _Loaded:
        if self._loaded is None:
            raise TrainingError("the task is not loaded")
        return self._loaded

    def _process(self) -> Process:
        config = self.base.scheduler_config()
        if self.base.architecture.process == "flow":
            return FlowMatching.of(config, self.settings.timesteps or Timesteps())
        return NoiseSchedule.of(config, zero_terminal_snr=self.settings.zero_terminal_snr)

    def _size(self, record: str) -> tuple[int, int]:
        width, _, height = self.inputs.shape(record).partition("x")
        return int(width), int(height)

    def _timesteps(self, batch: Batch, draws: Draws, fixed_round: int | None) -> list[float]:
        process, patch = self._ready.process, self.base.architecture.patch
        height, width = batch.clean.shape[-2:]
        tokens = (height // patch) * (width // patch)
        if fixed_round is None:
            return [process.timestep(draws.uniform("timestep", key), tokens) for key in batch.keys]
        quantile = (fixed_round + 0.5) / self.validation_rounds
        return [process.fixed_timestep(quantile, tokens)] * len(batch.keys)

    def _conditions(self, batch: Batch) -> Conditions:
        ready = self._ready
        return Conditions(
            texts=ready.texts.batch(batch.texts),
            frames=batch.frames.to(ready.runtime.device),
            guidance=self.settings.guidance_embed,
        )
