"""Adapters on the text encoders: they learn, and diffusers loads what they learned."""

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
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.data.images import ImageRecord
from lorareg.trainers.image.task import ImageTask
from lorareg.weights.formats import diffusers
from tests.trainers.pico_flow import pico_flux, pico_sd3  # noqa: F401  (fixtures, found by name)
from tests.trainers.pico_images import SAMPLING, SIDE, TRAINING, Case, Run

ENCODERS = {
    "pico_sd1": ["text_encoder"],
    "pico_sdxl": ["text_encoder", "text_encoder_2"],
    "pico_sd3": ["text_encoder", "text_encoder_2"],
    "pico_flux": ["text_encoder"],
}
LORA = Lora(rank=4, alpha=8, targets="kohya", text_encoder=True)
DRAWS = Draws(42).at("train", 3)


@dataclass(frozen=True)
class Trained:
    """A finished run, and the folder with its weights file."""

    case: Case
    run: Run
    folder: Path
    encoders: list[str]


@pytest.fixture(scope="module", params=ENCODERS)
def trained(
    request: pytest.FixtureRequest,
    pictures: tuple[ImageRecord, ...],
    tmp_path_factory: pytest.TempPathFactory,
) -> Trained:
    folder = tmp_path_factory.mktemp(request.param)
    base: ResolvedBase = request.getfixturevalue(request.param)
    runtime = Runtime(device="cpu", dtype="float32", threads=1, cache=folder / "cache")
    settings = TRAINING.model_copy(update={"batch_size": 4, "caption_dropout": 0.2})
    case = Case(base, pictures, runtime, folder, settings, LORA)
    run = case.start("straight")
    run.loop.run()
    diffusers.write(folder / diffusers.FILE, run.adapters.snapshot(), {"lorareg.asset": "a/b"})
    return Trained(case, run, folder, ENCODERS[request.param])


def reloaded(trained: Trained) -> Any:
    """The base's pipeline with the weights file, by diffusers alone."""
    pipeline = DiffusionPipeline.from_pretrained(trained.case.base.path)
    pipeline.load_lora_weights(trained.folder)
    return pipeline


def load(case: Case, **changes: Any) -> ImageTask:
    task = ImageTask(
        case.base, case.pictures, case.training, SAMPLING, DigestCache(None), **changes
    )
    task.load(case.runtime)
    return task


def test_every_clip_learns_beside_the_denoiser_and_t5_stays_frozen(trained: Trained) -> None:
    moved = {
        name.partition(".")[0]
        for name, value in trained.run.adapters.named_parameters().items()
        if name.endswith(".up") and value.any()
    }

    component = trained.run.task.base.architecture.component
    assert moved == {component, *trained.encoders}
    assert list(trained.run.task._ready.texts.live) == trained.encoders
    assert trained.run.loop.cursor.best_loss < trained.run.loop.cursor.base_loss


def test_before_it_learns_an_encoder_says_what_the_cache_says(trained: Trained) -> None:
    cached, texts = load(trained.case), ["a red disc", "", "a gold disc"]

    with trained.run.adapters.disabled(), torch.no_grad():
        found = trained.run.task._ready.texts.batch(texts)

    expected = cached._ready.texts.batch(texts)
    assert found.keys() == expected.keys()
    for part, fields in expected.items():
        for name, value in fields.items():
            torch.testing.assert_close(found[part][name], value, rtol=1e-4, atol=1e-5)


def test_diffusers_reads_captions_as_the_run_does(trained: Trained) -> None:
    pipeline, run = reloaded(trained), trained.run
    base = DiffusionPipeline.from_pretrained(trained.case.base.path)

    for part in trained.encoders:
        encoder = run.task._ready.texts.live[part]
        ids, mask = encoder.tokens["a red disc"]
        with torch.no_grad():
            ours = encoder.reader.read(encoder.model, ids, mask)
            theirs = encoder.reader.read(getattr(pipeline, part), ids, mask)
            before = encoder.reader.read(getattr(base, part), ids, mask)
        for name, value in ours.items():
            assert (value - theirs[name]).abs().max() < 1e-5
            assert (value - before[name]).abs().max() > 1e-3


def test_pictures_are_the_same_in_diffusers(trained: Trained) -> None:
    (sample,) = trained.run.task.sample(["a red disc"], 5)

    picture = reloaded(trained)(
        "a red disc", height=SIDE, width=SIDE, num_inference_steps=SAMPLING.steps,
        guidance_scale=SAMPLING.guidance, generator=torch.Generator().manual_seed(5),
    ).images[0]  # fmt: skip

    difference = np.abs(np.asarray(picture, int) - np.asarray(sample.output, int))
    assert difference.max() <= 1


def test_the_file_names_layers_as_the_encoders_of_this_transformers_do(trained: Trained) -> None:
    layers = diffusers.read(trained.folder / diffusers.FILE).layers

    for part in trained.encoders:
        model = trained.run.task._ready.encoders[part]
        mine = [name.partition(".")[2] for name in layers if name.startswith(f"{part}.")]
        assert len(mine) == 2 * 6  # two layers: four projections, two of the feed-forward
        assert set(mine) <= {name for name, _ in model.named_modules()}


def test_a_run_that_was_stopped_ends_like_the_straight_run(trained: Trained) -> None:
    with pytest.raises(LoraregError, match="stopped after step 3"):
        trained.case.start("stopped", stop=lambda step: step == 3).loop.run()

    resumed = trained.case.start("stopped")
    resumed.loop.run()

    straight, found = (one.adapters.named_parameters() for one in (trained.run, resumed))
    assert all(torch.equal(value, straight[name]) for name, value in found.items())


def test_validation_reads_captions_with_the_adapters_of_the_moment(case: Case) -> None:
    run = replace(case, lora=LORA).start()
    before = run.task.losses(["03.png"], DRAWS, 0)

    with torch.no_grad():
        for name, value in run.adapters.named_parameters().items():
            if name.startswith("text_encoder.") and name.endswith(".up"):
                value.fill_(0.1)

    assert not torch.equal(run.task.losses(["03.png"], DRAWS, 0), before)


def test_the_empty_caption_of_sdxl_stays_zero_while_encoders_learn(
    case: Case, pico_sdxl: ResolvedBase
) -> None:
    run = replace(case, base=pico_sdxl, lora=LORA).start()

    empty = run.task._ready.texts.batch(["a red disc", ""])

    assert all(
        value[0].any() and not value[1].any() for f in empty.values() for value in f.values()
    )


def test_encoders_learn_in_half_precision_too(case: Case) -> None:
    half = replace(case, lora=LORA, runtime=replace(case.runtime, dtype="bfloat16"))
    run = half.with_training(epochs=1).start()

    run.loop.run()

    learned = [
        v for n, v in run.adapters.named_parameters().items() if n.startswith("text_encoder.")
    ]
    assert all(value.dtype == torch.float32 for value in learned)
    assert any(value.any() for value in learned)


def test_the_task_says_which_encoders_learn_and_which_do_not(
    case: Case,
    pico_sd3: ResolvedBase,  # noqa: F811
) -> None:
    task = load(replace(case, base=pico_sd3), text_encoder=True)

    assert task.describe()[1] == (
        "adapters also on text_encoder, text_encoder_2; text_encoder_3 stays frozen"
    )
