"""LoRA training steps of a UNet of Stable Diffusion 1.5's shapes: ours and two plain loops.

All start from the same adapter and are given the same latents, noise, timesteps and texts, so that
their losses can be compared. The loop of diffusers' example computes latents and texts anew in
every step, as it does; it is then handed the common ones, since its bfloat16 ones differ.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image

from benchmarks.training_base import make_base, make_pictures
from benchmarks.training_ours import Ours
from benchmarks.training_turns import Contestant, Course
from lorareg.registry.digest import DigestCache
from lorareg.registry.image_training import ImageTraining
from lorareg.registry.manifest import Lora, Sampling
from lorareg.registry.training import Validation
from lorareg.trainers.adapters.inject import Adapters
from lorareg.trainers.core.plan import Plan
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Kernels, Runtime
from lorareg.trainers.image.noise import drawn_noise
from lorareg.trainers.image.task import ImageTask
from lorareg.trainers.image.text_embeddings import CaptionReader
from lorareg.trainers.machine import runtime

RANK, BATCH, SEED = 16, 2, 7
TARGETS = ["to_k", "to_q", "to_v", "to_out.0"]  # of diffusers' example
RATE = 1e-2  # a hundred times that of the example, so that few steps show a difference
TIMESTEPS = 1000
MOVED = 0.05  # share of a loss that training has to take off, or the losses would say nothing
APART = 1e-3  # of losses of the same step, relative
ROUNDING = 1.5  # times as far off float32 as the plain loops: ours rounds elsewhere, not more
OURS, CACHED, EXAMPLE = "lorareg", "PEFT, cached", "diffusers example"
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


@dataclass(frozen=True)
class Race:
    """What all contestants train.

    Attributes:
        px: side of the pictures.
        dtype: "fp32" or "bf16", of the base.
    """

    work: Path
    px: int
    dtype: str
    threads: int

    @property
    def settings(self) -> ImageTraining:
        """As the example's defaults are."""
        return ImageTraining(
            resolution=self.px, batch_size=BATCH, epochs=1000, learning_rate=RATE,
            scheduler="constant", caption_dropout=0.0, seed=SEED, validation=Validation(share=0),
        )  # fmt: skip

    def place(self, kernels: Kernels = "packed") -> Runtime:
        """Where and how our own code computes."""
        return runtime.choose(self.dtype, self.work / "cache", self.threads, kernels)

    def task(self) -> ImageTask:
        """The pictures and the base, nothing loaded yet."""
        digests = DigestCache(self.work / "digests.sqlite")
        base, pictures = make_base(self.work), make_pictures(self.work / "pictures")
        return ImageTask(base, pictures, self.settings, Sampling(), digests)

    def unet(self) -> Any:
        """The frozen denoiser, as diffusers loads it."""
        from diffusers import UNet2DConditionModel

        dtype = getattr(torch, DTYPES[self.dtype])
        folder = self.work / "sd15-shaped"
        return UNet2DConditionModel.from_pretrained(
            folder, subfolder="unet", dtype=dtype
        ).requires_grad_(False)


def ours(race: Race) -> Ours:
    """What ``lorareg train`` does in a step."""
    lora = Lora(rank=RANK, alpha=RANK)
    return Ours(race.task(), lora, race.settings, race.place(), race.work / "run")


@dataclass(frozen=True)
class Given:
    """The records of a step and all that is drawn for it; ``clean`` has unit variance."""

    records: list[str]
    texts: list[str]
    clean: torch.Tensor
    noise: torch.Tensor
    timesteps: torch.Tensor


class Shared:
    """What the plain loops are given: latents, text states and draws, as our own caches hold them.

    Attributes:
        states: of the text encoder, by caption.
    """

    def __init__(self, race: Race) -> None:
        place = race.place()
        self._task = race.task()
        self._task.inputs.encode(place)
        texts = sorted(self._task.inputs.texts())
        digests = DigestCache(race.work / "digests.sqlite")
        reader = CaptionReader(self._task.base, place, digests, lambda what, done, total: None)
        states = reader.read(texts).batch(texts)["text_encoder"]["states"]
        self.states = dict(zip(texts, states, strict=True))
        self._plan = Plan.of(self._task.ids, race.settings, self._task.shape)
        self._scale = float(self._task.base.vae_config()["scaling_factor"])

    def steps(self) -> Iterator[Given]:
        """Of every step, from the first on."""
        for step in count():
            draws = Draws(SEED).at("train", step)
            (records,) = self._plan.micro_batches(step, Draws(SEED))
            batch = self._task.inputs.batch(records, draws)
            clean = batch.clean * self._scale
            noise = torch.stack([drawn_noise(clean.shape[1:], draws, k, 0.0) for k in batch.keys])
            drawn = [int(draws.uniform("timestep", k) * TIMESTEPS) for k in batch.keys]
            yield Given(records, batch.texts, clean, noise, torch.tensor(drawn))


class PeftCached:
    """A loop on diffusers, PEFT and accelerate with latents and text states in memory."""

    def __init__(self, shared: Shared, unet: Any, race: Race, start: Adapters | None) -> None:
        from accelerate import Accelerator
        from diffusers import DDPMScheduler
        from diffusers.optimization import get_scheduler
        from peft import LoraConfig

        self.dtype = getattr(torch, DTYPES[race.dtype])
        self.shared = shared
        self.given = shared.steps()
        unet.add_adapter(
            LoraConfig(
                r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=TARGETS
            )
        )
        self.parameters = [p for p in unet.parameters() if p.requires_grad]
        for parameter in self.parameters:
            parameter.data = parameter.data.float()
        if start:
            _copy(start, unet)
        folder = race.work / "sd15-shaped"
        self.noises = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
        optimizer = torch.optim.AdamW(self.parameters, lr=RATE, weight_decay=1e-2)
        rates = get_scheduler("constant", optimizer=optimizer)
        mixed = "no" if race.dtype == "fp32" else "bf16"
        self.accelerator = Accelerator(cpu=True, mixed_precision=mixed)
        self.unet, self.optimizer, self.rates = self.accelerator.prepare(unet, optimizer, rates)
        self.unet.train()

    def step(self) -> float:
        """The body of the example's loop."""
        given = next(self.given)
        clean, states = self.encoded(given)
        with self.accelerator.accumulate(self.unet):
            noisy = self.noises.add_noise(clean, given.noise, given.timesteps).to(self.dtype)
            predicted = self.unet(noisy, given.timesteps, states, return_dict=False)[0]
            loss = F.mse_loss(predicted.float(), given.noise.float(), reduction="mean")
            mean = self.accelerator.gather(loss.repeat(BATCH)).mean()
            self.accelerator.backward(loss)
            self.accelerator.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.rates.step()
            self.optimizer.zero_grad()
        return float(mean.detach())

    def encoded(self, given: Given) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents and text states of a step, from memory."""
        states = torch.stack([self.shared.states[text] for text in given.texts])
        return given.clean, states.to(self.dtype)


class DiffusersExample(PeftCached):
    """As train_text_to_image_lora.py: pictures and texts go through their encoders every step."""

    def __init__(self, shared: Shared, unet: Any, race: Race, start: Adapters | None) -> None:
        from diffusers import AutoencoderKL
        from transformers import CLIPTextModel, CLIPTokenizer

        super().__init__(shared, unet, race, start)
        folder, dtype = race.work / "sd15-shaped", self.dtype
        self.vae = AutoencoderKL.from_pretrained(folder, subfolder="vae", dtype=dtype)
        self.reader = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder", dtype=dtype)
        self.tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
        self.vae.requires_grad_(False)
        self.reader.requires_grad_(False)
        self.pixels = _pixels(race)

    def encoded(self, given: Given) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents and text states of a step, by the encoders."""
        pixels = torch.stack([self.pixels[record] for record in given.records])
        self.vae.encode(pixels.to(self.dtype)).latent_dist.sample()
        tokens = self.tokenizer(
            given.texts, max_length=77, padding="max_length", truncation=True, return_tensors="pt"
        )
        self.reader(tokens.input_ids, return_dict=False)
        return super().encoded(given)


def contestants(race: Race) -> tuple[Ours, dict[str, Contestant]]:
    """All three in one process, ours also apart; the plain loops share their frozen weights."""
    mine, shared, unet = ours(race), Shared(race), race.unet()
    twin = copy.deepcopy(unet, {id(weight): weight for weight in unet.parameters()})
    return mine, {
        EXAMPLE: DiffusersExample(shared, unet, race, mine.adapters),
        CACHED: PeftCached(shared, twin, race, mine.adapters),
        OURS: mine,
    }


def in_float32(race: Race, steps: int) -> list[float]:
    """Losses of the same steps in float32, where ours and the plain loops agree within 1e-6."""
    exact = ours(replace(race, dtype="fp32"))
    return [exact.step() for _ in range(steps)]


def agreement(
    courses: Mapping[str, Course], unlearned: list[float], exact: list[float] | None = None
) -> str:
    """Whether all trained the same: a sentence to stand under the table.

    Every step has pictures, noise and timesteps of its own, so losses go up and down without any
    training. What training did to them shows beside ``unlearned``, the losses of the same steps
    with the adapter as it was before. Two ways to compute in bfloat16 round differently, and at
    this learning rate the next steps make more of it: there each is held against ``exact``, the
    losses in float32, and ours may not be further off than the plain loops are.

    Raises:
        SystemExit: training changed too little, or a loss is not ours.
    """
    own = courses[OURS].losses
    moved = _apart(own, unlearned)
    said = f"training changed the losses by up to {moved:.1%}; "
    if exact is None:
        apart = max(_apart(course.losses, own) for course in courses.values())
        said, agreed = f"{said}all agree within {apart:.0e}", apart <= APART
    else:
        off = {name: _apart(course.losses, exact) for name, course in courses.items()}
        told = ", ".join(f"{name} {value:.1e}" for name, value in off.items())
        plain = max(value for name, value in off.items() if name != OURS)
        said, agreed = f"{said}off the losses in float32: {told}", off[OURS] <= ROUNDING * plain
    if not (moved >= MOVED and agreed):  # so that NaN is told too
        raise SystemExit(f"{said}; which is not the same training")
    return said


def _apart(some: list[float], others: list[float]) -> float:
    """The largest relative difference of losses of the same step."""
    return max(abs(one - other) / other for one, other in zip(some, others, strict=True))


def by_itself(race: Race, name: str) -> Contestant:
    """One of them in a process of its own."""
    if name == OURS:
        return ours(race)
    torch.set_num_threads(race.threads)
    kind = DiffusersExample if name == EXAMPLE else PeftCached
    return kind(Shared(race), race.unet(), race, None)


def _pixels(race: Race) -> dict[str, torch.Tensor]:
    """Pictures by record, from -1 to 1."""
    found = {}
    for picture in make_pictures(race.work / "pictures"):
        image = Image.open(picture.path).resize((race.px, race.px), Image.Resampling.LANCZOS)
        pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float()
        found[picture.id] = pixels / 127.5 - 1
    return found


def _copy(start: Adapters, unet: Any) -> None:
    """Begin with the same adapter: lorareg's, which begins with an ``up`` of zeros."""
    own = start.named_parameters()
    with torch.no_grad():
        for name, module in unet.named_modules():
            if f"unet.{name}.down" in own:
                module.lora_A["default"].weight.copy_(own[f"unet.{name}.down"])
                module.lora_B["default"].weight.copy_(own[f"unet.{name}.up"])
