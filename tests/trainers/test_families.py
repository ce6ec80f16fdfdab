"""SD3 and Flux, end to end on tiny models of diffusers' own classes.

Stable Diffusion 1.x, 2.x and XL go the same way in ``test_image_task``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from lorareg.errors import LoraregError
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.digest import DigestCache
from lorareg.registry.manifest import Lora
from lorareg.trainers.adapters import inject
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.data.images import ImageRecord
from lorareg.trainers.image.families.flux import packed, places, unpacked
from lorareg.trainers.image.task import ImageTask
from lorareg.weights.formats import diffusers
from tests.trainers.pico_flow import (  # noqa: F401  (fixtures, found by name)
    pico_flux,
    pico_schnell,
    pico_sd3,
    pico_sd3_clips,
)
from tests.trainers.pico_images import SAMPLING, SIDE, TRAINING, Case, Run

FLOW = ("pico_sd3", "pico_sd3_clips", "pico_flux")
DRAWS = Draws(42).at("train", 3)
RECORD = "03.png"


@dataclass(frozen=True)
class Trained:
    """A finished run, and the folder with its weights file."""

    case: Case
    run: Run
    folder: Path


@pytest.fixture(scope="module", params=FLOW)
def trained(
    request: pytest.FixtureRequest,
    pictures: tuple[ImageRecord, ...],
    tmp_path_factory: pytest.TempPathFactory,
) -> Trained:
    folder = tmp_path_factory.mktemp(request.param)
    base: ResolvedBase = request.getfixturevalue(request.param)
    runtime = Runtime(device="cpu", dtype="float32", threads=1, cache=folder / "cache")
    settings = TRAINING.model_copy(update={"learning_rate": 3e-2, "batch_size": 4})
    lora = Lora(rank=4, alpha=8, targets="kohya")
    case = Case(base, pictures, runtime, folder, settings, lora)
    run = case.start("straight")
    run.loop.run()
    diffusers.write(folder / diffusers.FILE, run.adapters.snapshot(), {"lorareg.asset": "a/b"})
    return Trained(case, run, folder)


@pytest.fixture
def flow(case: Case, pico_flux: ResolvedBase) -> Case:  # noqa: F811
    """A case on the tiny Flux dev."""
    return replace(case, base=pico_flux)


def load(case: Case, **changes: Any) -> ImageTask:
    settings = case.training.model_copy(update=changes)
    task = ImageTask(case.base, case.pictures, settings, SAMPLING, DigestCache(None))
    task.load(case.runtime)
    return task


def pipeline_of(base: ResolvedBase) -> Any:
    """The base as people load it; diffusers asks them to say that there is no T5."""
    absent = ("text_encoder_3", "tokenizer_3") if base.model == "pico-sd3-clips" else ()
    return DiffusionPipeline.from_pretrained(base.path, **dict.fromkeys(absent))


def predicted(pipeline: Any, texts: list[str], noisy: torch.Tensor, t: torch.Tensor) -> Any:
    """What the denoiser says, in the words of diffusers' own training scripts."""
    rows, channels, height, width = noisy.shape
    model = pipeline.transformer
    if "Flux" not in type(pipeline).__name__:
        embeds, _, pooled, _ = pipeline.encode_prompt(
            texts, None, None, do_classifier_free_guidance=False
        )
        return model(noisy, embeds, pooled_projections=pooled, timestep=t).sample
    embeds, pooled, text_ids = pipeline.encode_prompt(texts)
    places = pipeline._prepare_latent_image_ids(rows, height // 2, width // 2, "cpu", torch.float32)
    guidance = torch.ones(rows) if model.config.guidance_embeds else None
    out = model(
        pipeline._pack_latents(noisy, rows, channels, height, width), embeds, pooled, t / 1000,
        img_ids=places, txt_ids=text_ids, guidance=guidance,
    ).sample  # fmt: skip
    factor = pipeline.vae_scale_factor
    return pipeline._unpack_latents(out, height * factor, width * factor, factor)


def test_the_loss_falls(trained: Trained) -> None:
    cursor = trained.run.loop.cursor

    assert cursor.best_loss is not None
    assert cursor.base_loss is not None
    assert cursor.best_loss < 0.9 * cursor.base_loss


def test_a_training_loss_is_diffusers_own(trained: Trained) -> None:
    task = trained.run.task
    pipeline = pipeline_of(trained.case.base)

    with trained.run.adapters.disabled(), torch.no_grad():
        (loss,) = task.losses([RECORD], DRAWS)

    batch = task.inputs.batch([RECORD], DRAWS)
    config = pipeline.vae.config
    clean = (batch.clean - config.shift_factor) * config.scaling_factor
    noise = DRAWS.normal((16, 8, 8), "noise", RECORD)[None]
    t = torch.tensor([task._ready.process.timestep(DRAWS.uniform("timestep", RECORD), 16)])
    noisy = (1 - t / 1000) * clean + t / 1000 * noise
    with torch.no_grad():
        found = predicted(pipeline, batch.texts, noisy, t)
    torch.testing.assert_close(loss, torch.nn.functional.mse_loss(found, noise - clean))


def test_what_was_trained_is_what_diffusers_loads(trained: Trained) -> None:
    pipeline = pipeline_of(trained.case.base)
    pipeline.load_lora_weights(trained.folder)
    run, task = trained.run, trained.run.task
    noisy = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(1))
    inputs = noisy, torch.tensor([300.0, 900.0])
    conditions = task._conditions(task.inputs.batch(["00.png", "01.png"], DRAWS, 0))
    predict = task.base.architecture.predict

    with torch.no_grad():
        ours = predict(run.unet, *inputs, conditions)
        theirs = predict(pipeline.transformer, *inputs, conditions)
        with run.adapters.disabled():
            base = predict(run.unet, *inputs, conditions)

    assert (ours - theirs).abs().max() < 1e-5
    assert (ours - base).abs().max() > 0.05


def test_pictures_are_the_same_in_diffusers(trained: Trained) -> None:
    run = trained.run
    (sample,) = run.task.sample(["a red disc"], 5)
    with run.adapters.disabled():
        (base,) = run.task.sample(["a red disc"], 5)
    pipeline = pipeline_of(trained.case.base)
    pipeline.load_lora_weights(trained.folder)

    picture = pipeline(
        "a red disc", height=SIDE, width=SIDE, num_inference_steps=SAMPLING.steps,
        guidance_scale=SAMPLING.guidance, generator=torch.Generator().manual_seed(5),
    ).images[0]  # fmt: skip

    def difference(other: Any) -> int:
        return int(np.abs(np.asarray(other, int) - np.asarray(sample.output, int)).max())

    assert difference(picture) <= 1
    assert difference(base.output) > 1


def test_the_weights_file_goes_on_the_pipeline_that_generates(trained: Trained) -> None:
    adapter = diffusers.read(trained.folder / diffusers.FILE)
    pipeline = trained.run.task.base.pipeline(torch.float32)

    adapters = inject.apply({"transformer": pipeline.transformer}, adapter)

    assert len(adapters.layers) == len(trained.run.adapters.layers)


def test_a_run_that_was_stopped_ends_like_the_straight_run(trained: Trained) -> None:
    with pytest.raises(LoraregError, match="stopped after step 3"):
        trained.case.start("stopped", stop=lambda step: step == 3).loop.run()

    resumed = trained.case.start("stopped")
    resumed.loop.run()

    straight, found = (one.adapters.named_parameters() for one in (trained.run, resumed))
    assert all(torch.equal(value, straight[name]) for name, value in found.items())


def test_a_loss_is_the_same_alone_and_among_others(trained: Trained) -> None:
    task = trained.run.task
    with torch.no_grad():
        alone = torch.cat([task.losses([record], DRAWS) for record in task.ids])
        together = task.losses(task.ids, DRAWS)

    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_a_distilled_base_is_told_the_guidance_of_the_manifest(flow: Case) -> None:
    plain, told = load(flow), load(flow, guidance_embed=4.0)

    with torch.no_grad():
        assert not torch.equal(plain.losses([RECORD], DRAWS), told.losses([RECORD], DRAWS))


def test_a_base_that_is_told_no_guidance_trains_too(
    flow: Case,
    pico_schnell: ResolvedBase,  # noqa: F811
) -> None:
    task = load(replace(flow, base=pico_schnell))

    assert task.losses([RECORD], DRAWS).isfinite().all()


def test_packed_latents_are_those_of_the_pipeline(pico_flux: ResolvedBase) -> None:  # noqa: F811
    pipeline = pipeline_of(pico_flux)
    latents = torch.randn(2, 16, 6, 10)

    tokens = packed(latents)

    assert torch.equal(tokens, pipeline._pack_latents(latents, 2, 16, 6, 10))
    assert torch.equal(unpacked(tokens, 6, 10), latents)
    assert torch.equal(
        places(3, 5), pipeline._prepare_latent_image_ids(2, 3, 5, "cpu", torch.float32)
    )


def test_half_precision_trains_and_keeps_timesteps_exact(flow: Case) -> None:
    half = replace(flow, runtime=replace(flow.runtime, dtype="bfloat16")).with_training(epochs=1)
    run = half.start()

    run.loop.run()

    assert run.unet.proj_out.weight.dtype == torch.bfloat16
    assert all(
        p.dtype == torch.float32 and p.isfinite().all()
        for p in run.adapters.named_parameters().values()
    )


def test_the_task_says_what_it_learns(
    flow: Case,
    pico_sd2: ResolvedBase,
) -> None:
    shifted, v = load(flow), load(replace(flow, base=pico_sd2))

    assert "base: Flux, flow matching" in shifted.describe()[0]
    assert v.describe()[0] == (
        "base: Stable Diffusion, predicts v; the last timestep is pure noise"
    )
