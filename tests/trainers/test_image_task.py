"""The image task: its loss is diffusers' own, and what it trains is what diffusers loads."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDPMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)

from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.digest import DigestCache
from lorareg.registry.manifest import Lora
from lorareg.registry.training import Validation
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Task
from lorareg.trainers.image.families.family import Fields
from lorareg.trainers.image.inputs import Batch
from lorareg.trainers.image.pipelines import DiffusionBase
from lorareg.trainers.image.task import ImageTask
from lorareg.weights.formats import diffusers
from tests.trainers.pico_images import SAMPLING, SIDE, TRAINING, Case, Run, resolve

BASES = ("pico_sd1", "pico_sd2", "pico_sdxl")
PIPELINES = {"sd": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}
SCALING = 0.18215  # of AutoencoderKL unless its config says otherwise
DRAWS = Draws(42).at("train", 3)


@pytest.fixture(params=BASES)
def each(request: pytest.FixtureRequest, case: Case) -> Case:
    """A case on each family of bases."""
    return replace(case, base=request.getfixturevalue(request.param))


def load(case: Case, **changes: Any) -> ImageTask:
    settings = case.training.model_copy(update=changes)
    task = ImageTask(case.base, case.pictures, settings, SAMPLING, DigestCache(None))
    task.load(case.runtime)
    return task


def told(task: ImageTask, texts: Sequence[str]) -> Mapping[str, Fields]:
    """What the denoiser is told of captions."""
    return task._ready.texts.batch(texts)


def by_hand(
    case: Case, batch: Batch, times: int, latents: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """The loss of one picture, written out with diffusers' own parts."""
    pipeline = DiffusionBase.of(case.base).pipeline(torch.float32)
    schedule = DDPMScheduler.from_pretrained(case.base.path, subfolder="scheduler")
    embeds, *others = pipeline.encode_prompt(
        batch.texts,
        device="cpu",
        num_images_per_prompt=1,
        do_classifier_free_guidance=False,
    )
    t = torch.tensor([times])
    extra: dict[str, Any] = {}
    if isinstance(pipeline, StableDiffusionXLPipeline):
        extra["added_cond_kwargs"] = {"text_embeds": others[1], "time_ids": batch.frames}
    noisy = schedule.add_noise(latents, noise, t)
    is_v = schedule.config.prediction_type == "v_prediction"
    target = schedule.get_velocity(latents, noise, t) if is_v else noise
    with torch.no_grad():
        predicted = pipeline.unet(noisy, t, embeds, **extra).sample
    return torch.nn.functional.mse_loss(predicted, target)


def test_the_task_answers_the_core_s_protocol(case: Case) -> None:
    task: Task = load(case)

    assert list(task.ids) == [record.id for record in case.pictures]
    assert (task.unit, task.validation_rounds) == ("image", 4)
    assert task.weight("00.png") == 1


def test_the_denoiser_is_frozen_and_alone(case: Case) -> None:
    task = ImageTask(case.base, case.pictures, TRAINING, SAMPLING, DigestCache(None))

    unet = task.load(case.runtime)["unet"]

    assert isinstance(unet, UNet2DConditionModel)
    assert not unet.training
    assert not any(parameter.requires_grad for parameter in unet.parameters())


def test_a_training_loss_is_diffusers_own(each: Case) -> None:
    task, record = load(each), "03.png"

    loss = task.losses([record], DRAWS)

    batch = task.inputs.batch([record], DRAWS)
    noise = DRAWS.normal((4, 8, 8), "noise", record)[None]
    time = int(DRAWS.uniform("timestep", record) * 1000)
    torch.testing.assert_close(loss[0], by_hand(each, batch, time, batch.clean * SCALING, noise))


def test_a_validation_loss_has_fixed_timesteps_and_no_sampled_latents(each: Case) -> None:
    settings = {"caption_dropout": 0.99, "min_snr_gamma": 1.0, "noise_offset": 1.0}
    task, record = load(each, **settings), "03.png"

    losses = [task.losses([record], DRAWS, number)[0] for number in range(4)]

    batch = task.inputs.batch([record], DRAWS, 0)
    noise = DRAWS.normal((4, 8, 8), "noise", record)[None]
    clean = batch.clean * SCALING
    expected = [by_hand(each, batch, time, clean, noise) for time in (125, 375, 625, 875)]
    torch.testing.assert_close(torch.stack(losses), torch.stack(expected))


def test_a_loss_is_the_same_alone_and_among_others(each: Case) -> None:
    task = load(each)
    alone = torch.cat([task.losses([record], DRAWS) for record in task.ids])

    together = task.losses(task.ids, DRAWS)

    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_min_snr_weighs_each_picture_by_its_timestep(each: Case) -> None:
    plain, weighed = load(each), load(each, min_snr_gamma=5.0)
    times = [int(DRAWS.uniform("timestep", record) * 1000) for record in plain.ids]

    ratio = weighed.losses(plain.ids, DRAWS) / plain.losses(plain.ids, DRAWS)

    weights = plain._ready.process.loss_weight(torch.tensor(times), 5.0)
    torch.testing.assert_close(ratio, weights)
    assert not torch.equal(weights, torch.ones_like(weights))


def test_a_dropped_caption_is_the_empty_one_and_only_in_its_share(each: Case) -> None:
    task = load(each, caption_dropout=0.5)
    empty = told(task, [""])["text_encoder"]["states"][0]

    def dropped(step: int) -> list[bool]:
        batch = task.inputs.batch(task.ids, Draws(42).at("train", step))
        states = told(task, batch.texts)["text_encoder"]["states"]
        return [torch.equal(one, empty) for one in states]

    found = [drop for step in range(40) for drop in dropped(step)]
    assert 0.4 < sum(found) / len(found) < 0.6
    assert dropped(7) == dropped(7)


def test_sdxl_is_told_size_corner_and_target(case: Case, pico_sdxl: ResolvedBase) -> None:
    task = load(replace(case, base=pico_sdxl))
    wide = "08.png"  # 56 x 40 pixels, shrunk to 45 x 32

    conditions = task._conditions(task.inputs.batch([wide], DRAWS))

    assert conditions.frames.tolist() == [[40, 56, 0, 6, SIDE, SIDE]]
    assert conditions.texts["text_encoder_2"]["pooled"].shape == (1, 24)


def test_sizes_are_not_rounded_in_half_precision(case: Case, pico_sdxl: ResolvedBase) -> None:
    half = replace(case, base=pico_sdxl, runtime=replace(case.runtime, dtype="bfloat16"))
    task = load(half)
    frame = [1023.0, 769.0, 3.0, 257.0, 1023.0, 1023.0]
    batch = replace(task.inputs.batch(["00.png"], DRAWS), frames=torch.tensor([frame]))

    conditions = task._conditions(batch)

    assert conditions.frames.tolist() == [frame]
    assert task.losses(["00.png"], DRAWS).isfinite().all()


@pytest.mark.parametrize(
    ("targets", "endings"),
    [
        ("attention", {"to_q", "to_k", "to_v", "0"}),
        ("attention+ff", {"to_q", "to_k", "to_v", "0", "proj", "2", "proj_in", "proj_out"}),
        (("conv1", "conv2"), {"conv1", "conv2"}),
    ],
)
def test_targets_are_presets_or_endings(
    case: Case, targets: str | tuple[str, ...], endings: set[str]
) -> None:
    found = load(case).targets(Lora(targets=targets))

    assert {name.rpartition(".")[2] for name in found} == endings


def test_all_linear_takes_every_linear_layer(case: Case) -> None:
    task = load(case)
    linear = torch.nn.Linear

    found = task.targets(Lora(targets="all-linear"))

    modules = task._ready.denoiser.named_modules()
    assert found == [f"unet.{name}" for name, module in modules if isinstance(module, linear)]


class FirstDigests(DigestCache):
    """Remembers every digest for ever, so that a file may be spoiled behind its back."""

    def __init__(self) -> None:
        super().__init__(None)
        self._known: dict[str, str] = {}

    def digests(self, files: Mapping[str, Path]) -> dict[str, str]:
        new = {name: path for name, path in files.items() if name not in self._known}
        self._known |= super().digests(new)
        return {name: self._known[name] for name in files}


def test_a_warm_run_needs_neither_autoencoder_nor_text_encoders(each: Case, tmp_path: Path) -> None:
    shutil.copytree(each.base.path, tmp_path / "copy")
    base, digests = resolve(tmp_path / "copy"), FirstDigests()
    first = ImageTask(base, each.pictures, TRAINING, SAMPLING, digests)
    first.load(each.runtime)
    for weights in (tmp_path / "copy").rglob("*.safetensors"):
        if weights.parent.name != "unet":
            weights.write_bytes(b"")

    second = ImageTask(base, each.pictures, TRAINING, SAMPLING, digests)
    second.load(each.runtime)

    assert torch.equal(second.losses(second.ids, DRAWS), first.losses(first.ids, DRAWS))


def test_a_sample_is_the_same_every_time_and_leaves_torch_s_stream_alone(each: Case) -> None:
    task = load(each)
    state = torch.random.get_rng_state()

    first, second = (task.sample(["a red disc", "a blue disc"], 1) for _ in range(2))
    (alone,) = task.sample(["a blue disc"], 1)
    (other,) = task.sample(["a blue disc"], 2)

    assert [sample.output for sample in first] == [sample.output for sample in second]
    assert first[1].output == alone.output
    assert alone.output != other.output
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_half_precision_base_samples_with_adapters_on_every_kind_of_layer(case: Case) -> None:
    half = replace(case, runtime=replace(case.runtime, dtype="bfloat16"))
    lora = Lora(rank=4, targets=("to_q", "conv_in", "conv1", "linear_1", "proj_in"))
    run = replace(half, lora=lora).start()
    (expected,) = run.task.sample(["a red disc"], 1)
    with torch.no_grad():
        for name, parameter in run.adapters.named_parameters().items():
            parameter.copy_(Draws(5).normal(parameter.shape, name) * 0.1)

    (found,) = run.task.sample(["a red disc"], 1)

    assert found.output != expected.output


def trained(case: Case, folder: Path) -> Run:
    """Two epochs, and the weights file as ``train`` writes it."""
    run = case.with_training(epochs=2, validation=Validation(share=0.0)).start()
    run.loop.run()
    diffusers.write(folder / diffusers.FILE, run.adapters.snapshot(), {"lorareg.asset": "a/b"})
    return run


@pytest.mark.parametrize(
    "lora",
    [
        Lora(rank=4, alpha=4),
        Lora(rank=4, alpha=16, targets="attention+ff"),
        Lora(rank=8, alpha=2, targets=("to_q", "conv1", "conv_in", "linear_1")),
    ],
    ids=["attention", "alpha above rank", "alpha below rank, convolutions"],
)
def test_what_was_trained_is_what_diffusers_loads(each: Case, tmp_path: Path, lora: Lora) -> None:
    run = trained(replace(each, lora=lora), tmp_path / "out")
    kind = PIPELINES[run.task.base.family]

    pipeline = kind.from_pretrained(each.base.path, safety_checker=None, vae=run.task.base.vae())
    pipeline.load_lora_weights(tmp_path / "out")

    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    inputs = noisy, torch.tensor([500])
    conditions = run.task._conditions(run.task.inputs.batch(["00.png"], DRAWS, 0))
    predict = run.task.base.architecture.predict
    with torch.no_grad():
        ours = predict(run.unet, *inputs, conditions)
        theirs = predict(pipeline.unet, *inputs, conditions)
        with run.adapters.disabled():
            base = predict(run.unet, *inputs, conditions)
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)
    assert (ours - base).abs().max() > 100 * (ours - theirs).abs().max()


def test_pictures_are_the_same_in_diffusers(each: Case, tmp_path: Path) -> None:
    run = trained(replace(each, lora=Lora(rank=4, alpha=16)), tmp_path / "out")
    (sample,) = run.task.sample(["a red disc"], 5)
    with run.adapters.disabled():
        (base,) = run.task.sample(["a red disc"], 5)

    pipeline = PIPELINES[run.task.base.family].from_pretrained(each.base.path)
    pipeline.load_lora_weights(tmp_path / "out")
    picture = pipeline(
        "a red disc",
        height=SIDE,
        width=SIDE,
        num_inference_steps=SAMPLING.steps,
        guidance_scale=SAMPLING.guidance,
        generator=torch.Generator().manual_seed(5),
    ).images[0]

    difference = np.abs(np.asarray(picture, int) - np.asarray(sample.output, int))
    effect = np.abs(np.asarray(base.output, int) - np.asarray(sample.output, int))
    assert difference.max() <= 1
    assert effect.max() > 1
