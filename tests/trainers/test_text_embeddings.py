"""Captions as the text encoders read them: what diffusers would compute, computed once."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionXLPipeline
from transformers import CLIPTextModelWithProjection, T5EncoderModel

from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.digest import DigestCache
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.image.pipelines import DiffusionBase
from lorareg.trainers.image.text_embeddings import CaptionReader, TextEmbeddings
from tests.trainers.pico_flow import pico_flux, pico_sd3  # noqa: F401  (fixtures, found by name)
from tests.trainers.pico_images import resolve

Read = Callable[[ResolvedBase, list[str]], TextEmbeddings]
TEXTS = ["a red disc", "", "a blue disc, very blue and far too long to be read as a whole"]


@pytest.fixture
def told() -> list[tuple[str, int, int]]:
    return []


@pytest.fixture
def read(runtime: Runtime, told: list[tuple[str, int, int]]) -> Read:
    """A new reader on the same cache, as another run would make it."""

    def make(base: ResolvedBase, texts: list[str]) -> TextEmbeddings:
        def progress(what: str, done: int, total: int) -> None:
            told.append((what, done, total))

        reader = CaptionReader(DiffusionBase.of(base), runtime, DigestCache(None), progress)
        return reader.read(texts)

    return make


def flat(texts: TextEmbeddings) -> dict[str, torch.Tensor]:
    fields = texts.batch(TEXTS)
    return {f"{part}.{name}": v for part, found in fields.items() for name, v in found.items()}


def edited(base: ResolvedBase, folder: Path, name: str, **changes: object) -> ResolvedBase:
    """A copy of a base with one config changed."""
    shutil.copytree(base.path, folder)
    config = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(config | changes))
    return resolve(folder)


def test_sd_is_told_the_last_states(pico_sd1: ResolvedBase, read: Read) -> None:
    pipeline = DiffusionPipeline.from_pretrained(pico_sd1.path)
    expected, _ = pipeline.encode_prompt(TEXTS, "cpu", 1, False)

    found = flat(read(pico_sd1, TEXTS))

    assert found.keys() == {"text_encoder.states"}
    torch.testing.assert_close(found["text_encoder.states"], expected)


@pytest.mark.parametrize("zeros", [True, False])
def test_sdxl_is_told_states_before_the_last_layer_and_what_guidance_starts_from(
    pico_sdxl: ResolvedBase, read: Read, tmp_path: Path, zeros: bool
) -> None:
    base = edited(
        pico_sdxl, tmp_path / "copy", "model_index.json", force_zeros_for_empty_prompt=zeros
    )
    pipeline = StableDiffusionXLPipeline.from_pretrained(base.path)
    embeds, empty, pooled, empty_pooled = pipeline.encode_prompt(TEXTS)

    found = flat(read(base, TEXTS))

    states = torch.cat([found["text_encoder.states"], found["text_encoder_2.states"]], dim=-1)
    torch.testing.assert_close(states[[0, 2]], embeds[[0, 2]])
    torch.testing.assert_close(found["text_encoder_2.pooled"][[0, 2]], pooled[[0, 2]])
    torch.testing.assert_close(states[1], empty[1])
    torch.testing.assert_close(found["text_encoder_2.pooled"][1], empty_pooled[1])
    assert bool(states[1].any()) is not zeros


@pytest.mark.parametrize("base", ["pico_sd1", "pico_sdxl", "pico_sd3", "pico_flux"])
def test_with_a_warm_cache_no_encoder_is_loaded(
    base: str,
    request: pytest.FixtureRequest,
    read: Read,
    told: list[tuple[str, int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen: ResolvedBase = request.getfixturevalue(base)
    cold = flat(read(chosen, TEXTS))
    told.clear()
    monkeypatch.delattr(DiffusionBase, "text_part")

    warm = flat(read(chosen, TEXTS))

    assert told == []
    assert all(torch.equal(value, warm[name]) for name, value in cold.items())


def test_encoders_are_in_memory_one_at_a_time(
    pico_sd3: ResolvedBase,  # noqa: F811
    runtime: Runtime,
) -> None:
    def loaded() -> int:
        kinds = (CLIPTextModelWithProjection, T5EncoderModel)
        return sum(type(thing) in kinds for thing in gc.get_objects())

    gc.collect()
    before, during = loaded(), []
    reader = CaptionReader(
        DiffusionBase.of(pico_sd3), runtime, DigestCache(None),
        lambda *told: during.append(loaded() - before),
    )  # fmt: skip

    reader.read(TEXTS[:1])

    assert during == [1, 1, 1]
    assert loaded() == before


def test_only_a_new_caption_is_encoded(
    pico_sd1: ResolvedBase, read: Read, told: list[tuple[str, int, int]]
) -> None:
    read(pico_sd1, TEXTS)
    told.clear()

    read(pico_sd1, [*TEXTS, "a black disc"])

    assert told == [("encoding captions", 1, 1)]


def test_an_encoder_s_captions_are_shared_by_the_bases_that_have_it(
    pico_sd1: ResolvedBase, read: Read, told: list[tuple[str, int, int]], tmp_path: Path
) -> None:
    read(pico_sd1, TEXTS)
    told.clear()

    read(edited(pico_sd1, tmp_path / "unet", "unet/config.json", sample_size=16), TEXTS)
    assert told == []
    read(edited(pico_sd1, tmp_path / "text", "text_encoder/config.json", note=1), TEXTS)
    assert len(told) == len(TEXTS)


def test_clip_is_read_in_full_precision_and_t5_in_that_of_the_run(
    pico_flux: ResolvedBase,  # noqa: F811
    runtime: Runtime,
) -> None:
    half = replace(runtime, dtype="bfloat16")
    base = DiffusionBase.of(pico_flux)

    def kept(place: Runtime) -> dict[str, Any]:
        return CaptionReader(base, place, DigestCache(None), lambda *told: None).read(TEXTS).kept

    dtypes = {
        part: {value.dtype for value in values["a red disc"].values()}
        for part, values in kept(half).items()
    }
    assert dtypes == {"text_encoder": {torch.float32}, "text_encoder_2": {torch.bfloat16}}
    assert kept(runtime)["text_encoder_2"]["a red disc"]["states"].dtype == torch.float32


def test_a_value_does_not_depend_on_what_else_is_encoded(
    pico_sd1: ResolvedBase, runtime: Runtime, tmp_path: Path
) -> None:
    def states(texts: list[str], cache: str) -> torch.Tensor:
        place = replace(runtime, cache=tmp_path / cache)
        reader = CaptionReader(
            DiffusionBase.of(pico_sd1), place, DigestCache(None), lambda *told: None
        )
        return reader.read(texts).kept["text_encoder"][TEXTS[0]]["states"]

    assert torch.equal(states(TEXTS, "all"), states(TEXTS[:1], "one"))
