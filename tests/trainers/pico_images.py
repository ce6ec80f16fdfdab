"""Diffusion models small enough to make in a second, and pictures for them to learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image, ImageDraw
from torch import manual_seed
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from lorareg.registry import digest
from lorareg.registry.bases import base as bases
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.digest import DigestCache
from lorareg.registry.image_training import ImageTraining
from lorareg.registry.manifest import Base, Lora
from lorareg.registry.runfacts import Rung
from lorareg.registry.sampling import Sampling
from lorareg.registry.training import Validation
from lorareg.trainers.adapters import inject
from lorareg.trainers.adapters.inject import Adapters
from lorareg.trainers.core.loop import Loop
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.core.watching import StepFacts
from lorareg.trainers.data.images import ImageRecord
from lorareg.trainers.image.task import ImageTask
from lorareg.trainers.machine.ranks import Ranks

SIDE = 32  # pixels; latents are 8 x 8
TOKENS = 24  # a caption is read character by character
SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "steps_offset": 1,
}
TRAINING = ImageTraining(
    resolution=SIDE,
    batch_size=2,
    epochs=4,
    learning_rate=1e-2,
    caption_dropout=0.0,
    precision="fp32",
    validation=Validation(share=0.2),
)
SAMPLING = Sampling(prompts=("a red disc",), steps=2, guidance=2.0)


def make_tokenizer() -> CLIPTokenizer:
    """CLIP's own tokenizer with letters for a vocabulary: no merges."""
    letters = [chr(code) for code in range(33, 127)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{x}</w>" for x in letters)]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=TOKENS)


def make_text_config(width: int, **changes: Any) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=190,
        hidden_size=width,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        **changes,
    )


def make_unet(**changes: Any) -> UNet2DConditionModel:
    shape: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "cross_attention_dim": 32,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**shape | changes)


def make_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(16, 16, 32),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=8,
        sample_size=SIDE,
    )


def resolve(folder: Path) -> ResolvedBase:
    """A folder as the registry finds it."""
    return bases.resolve(Base(model=folder.name), "text-to-image", folder.parent, DigestCache(None))


def make_sd(folder: Path, *, v_prediction: bool) -> ResolvedBase:
    """Stable Diffusion 1.x, or 2.x with v-prediction and zero terminal SNR."""
    manual_seed(11)
    kind = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    pipeline = StableDiffusionPipeline(
        vae=make_vae(),
        text_encoder=CLIPTextModel(make_text_config(32)),
        tokenizer=make_tokenizer(),
        unet=make_unet(use_linear_projection=v_prediction),
        scheduler=DDIMScheduler(**SCHEDULE, **(kind if v_prediction else {})),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return resolve(folder)


def make_sdxl(folder: Path) -> ResolvedBase:
    """Two text encoders of different widths, micro-conditioning, deeper attention."""
    manual_seed(12)
    unet = make_unet(
        cross_attention_dim=32 + 40,
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24 + 6 * 8,
    )
    second = make_text_config(40, projection_dim=24, hidden_act="gelu")
    pipeline = StableDiffusionXLPipeline(
        vae=make_vae(),
        text_encoder=CLIPTextModel(make_text_config(32)),
        text_encoder_2=CLIPTextModelWithProjection(second),
        tokenizer=make_tokenizer(),
        tokenizer_2=make_tokenizer(),
        unet=unet,
        scheduler=DDIMScheduler(**SCHEDULE),
    )
    pipeline.save_pretrained(folder)
    return resolve(folder)


@pytest.fixture(scope="session")
def pico_sd1(tmp_path_factory: pytest.TempPathFactory) -> ResolvedBase:
    """Predicts the noise."""
    return make_sd(tmp_path_factory.mktemp("models") / "pico-sd1", v_prediction=False)


@pytest.fixture(scope="session")
def pico_sd2(tmp_path_factory: pytest.TempPathFactory) -> ResolvedBase:
    """Predicts v; no signal at the last timestep."""
    return make_sd(tmp_path_factory.mktemp("models") / "pico-sd2", v_prediction=True)


@pytest.fixture(scope="session")
def pico_sdxl(tmp_path_factory: pytest.TempPathFactory) -> ResolvedBase:
    """Two text encoders, time ids."""
    return make_sdxl(tmp_path_factory.mktemp("models") / "pico-sdxl")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageRecord, ...]:
    """Nine coloured discs of several sizes; nine leaves a last batch of one."""
    return make_pictures(tmp_path_factory.mktemp("discs"), 9)


def make_pictures(folder: Path, count: int) -> tuple[ImageRecord, ...]:
    """Draw discs of several colours in frames of several shapes."""
    colors = ("red", "green", "blue", "gold")
    return tuple(
        make_picture(folder, f"{number:02d}.png", colors[number % 4], 32 + 3 * number)
        for number in range(count)
    )


def make_picture(folder: Path, name: str, color: str, width: int) -> ImageRecord:
    image = Image.new("RGB", (width, 40), "white")
    ImageDraw.Draw(image).ellipse((4, 4, 30, 30), fill=color)
    image.save(folder / name)
    caption = f"a {color} disc"
    return ImageRecord(name, folder / name, caption, digest.of_file(folder / name))


@dataclass
class Notes:
    """A watcher that remembers what it was told."""

    notes: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    stages: list[tuple[str, int, int]] = field(default_factory=list)

    def stage(self, what: str, done: int, total: int) -> None:
        self.stages.append((what, done, total))

    def step(self, facts: StepFacts) -> None:
        self.steps.append(facts.step)

    def validated(self, step: int, loss: float, base: float) -> None:
        self.notes.append(f"validated {step}")

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass
class Run:
    """A loop on a pico base, and everything a test wants to look at."""

    task: ImageTask
    unet: Any
    adapters: Adapters
    loop: Loop
    watcher: Notes


@dataclass(frozen=True)
class Case:
    """What to train; every test changes what it is about."""

    base: ResolvedBase
    pictures: tuple[ImageRecord, ...]
    runtime: Runtime
    folder: Path
    training: ImageTraining = TRAINING
    lora: Lora = Lora(rank=4, alpha=8)
    kind: type[ImageTask] = ImageTask
    ranks: Ranks = Ranks()
    rungs: tuple[Rung, ...] = ()

    def with_training(self, **changes: Any) -> Case:
        return replace(self, training=self.training.model_copy(update=changes))

    def start(
        self,
        folder: str = "run",
        *,
        stop: Callable[[int], bool] = lambda step: False,
        sample: Callable[[Run, int], None] = lambda run, step: None,
        sample_steps: int = 0,
    ) -> Run:
        """A loop that is ready to ``run``; ``stop`` is asked with the step."""
        task = self.kind(
            self.base, self.pictures, self.training, SAMPLING, DigestCache(None),
            text_encoder=self.lora.text_encoder,
        )  # fmt: skip
        models = self.ranks.leader_first(lambda: task.load(self.runtime))
        ranks = dict.fromkeys(task.targets(self.lora), self.lora.rank)
        adapters = inject.inject(models, ranks, self.lora, Draws(self.training.seed))
        watcher = Notes()
        loop = Loop(
            task, adapters, self.training, self.runtime, self.folder / folder, watcher,
            stop=lambda: stop(loop.cursor.step),
            sample=lambda step: sample(run, step),
            sample_steps=sample_steps,
            ranks=self.ranks,
            rungs=self.rungs,
        )  # fmt: skip
        run = Run(task, models[task.base.architecture.component], adapters, loop, watcher)
        return run


@pytest.fixture
def case(
    pico_sd1: ResolvedBase,
    pictures: tuple[ImageRecord, ...],
    runtime: Runtime,
    tmp_path: Path,
) -> Case:
    """The tiny SD 1.x on nine discs: seven to learn from, two held out."""
    return Case(pico_sd1, pictures, runtime, tmp_path)
