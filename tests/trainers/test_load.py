"""lorareg.load: what it adds to a loaded model, and that the model is the base again afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft import PeftModel

import lorareg
from lorareg.errors import LoraregError
from lorareg.registry.bases.base import ResolvedBase
from lorareg.trainers.adapters import peft_layers
from lorareg.weights import compose
from lorareg.weights.adapter import LoraAdapter, LoraLayer
from lorareg.weights.formats import diffusers, peft
from tests.trainers.conftest import make_llama
from tests.weights.composed import Shelf

BOTH = "style/ink:0.7{te=0.3}+character/face:-0.4"
PROMPT = "a red disc"
PIXELS = {"atol": 2e-5, "rtol": 0}


@pytest.fixture
def pipe(pico_sd1: ResolvedBase) -> Any:
    pipeline = StableDiffusionPipeline.from_pretrained(pico_sd1.path)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def shelf(tmp_path: Path, pipe: Any) -> Shelf:
    """Pictures: ink (denoiser and text encoder, rank 4) and face (denoiser, rank 2)."""
    (tmp_path / "lorareg.yaml").write_text("schema: lorareg/1\nname: test\n", encoding="utf-8")
    shelf, unet = Shelf(tmp_path), {"unet": pipe.unet}
    both = {**unet, "text_encoder": pipe.text_encoder}
    shelf.add("style/ink", planted(both, ("to_q", "to_out.0", "q_proj", "conv1"), 4, 1))
    shelf.add("character/face", planted(unet, ("to_q", "to_v", "ff.net.2"), 2, 2))
    shelf.add("style/wide", LoraAdapter({"unet.conv_in": layer(2, (7,), 7, 3)}))
    return shelf


def layer(rank: int, down: tuple[int, ...], out: int, seed: int) -> LoraLayer:
    random, tail = np.random.default_rng(seed), (1, 1) if len(down) > 1 else ()
    shapes = ((rank, *down), (out, rank, *tail))
    a, b = (0.3 * random.standard_normal(shape).astype(np.float32) for shape in shapes)
    return LoraLayer(a, b, 2.0 * rank)


def planted(
    models: Mapping[str, Any], endings: tuple[str, ...], rank: int, seed: int
) -> LoraAdapter:
    """Random weights on every layer whose path ends so."""
    layers = {}
    for name, module in peft_layers.modules(models).items():
        if hasattr(module, "weight") and name.endswith(endings):
            out, *down = module.weight.shape
            layers[name] = layer(rank, tuple(down), out, seed + len(layers))
    return LoraAdapter(layers)


def picture(pipe: Any, steps: int = 3) -> np.ndarray:
    generator = torch.Generator().manual_seed(5)
    found = pipe(
        PROMPT, height=32, width=32, num_inference_steps=steps, generator=generator,
        output_type="np",
    )  # fmt: skip
    return np.asarray(found.images[0])


def merged(shelf: Shelf, expression: str) -> dict[str, torch.Tensor]:
    """The file of the exact sum, as diffusers' loader takes it."""
    from safetensors.torch import load_file

    file = shelf.root / "merged.safetensors"
    diffusers.write(file, compose.build(shelf.compose(expression)), {})
    return load_file(file)


def test_a_loaded_composition_draws_what_the_merged_file_draws_in_diffusers(
    shelf: Shelf, pipe: Any
) -> None:
    base = picture(pipe)
    pipe.load_lora_weights(merged(shelf, BOTH))
    expected = picture(pipe)
    pipe.unload_lora_weights()

    with lorareg.load(pipe, BOTH, shelf.root):
        found = picture(pipe)

    np.testing.assert_allclose(found, expected, **PIXELS)
    assert np.abs(found - base).max() > 0.01


def test_a_swap_reloads_nothing_and_gives_what_the_other_composition_gives(
    shelf: Shelf, pipe: Any
) -> None:
    with lorareg.load(pipe, "character/face:0.5", shelf.root):
        expected = picture(pipe)
    addresses = {name: p.data_ptr() for name, p in pipe.unet.named_parameters()}

    with lorareg.load(pipe, BOTH, shelf.root) as loaded:
        loaded.swap("character/face:0.5")
        found = picture(pipe)

    assert np.array_equal(found, expected)
    assert {name: p.data_ptr() for name, p in pipe.unet.named_parameters()} == addresses


def test_what_was_removed_leaves_the_base_to_the_bit(shelf: Shelf, pipe: Any) -> None:
    parts = (pipe.unet, pipe.text_encoder)
    before = [{k: v.clone() for k, v in part.state_dict().items()} for part in parts]
    drawn = picture(pipe)

    loaded = lorareg.load(pipe, BOTH, shelf.root)
    picture(pipe)
    loaded.remove()

    for part, state in zip(parts, before, strict=True):
        assert part.state_dict().keys() == state.keys()
        assert all(torch.equal(part.state_dict()[name], value) for name, value in state.items())
    assert np.array_equal(picture(pipe), drawn)


def test_a_swap_that_does_not_fit_leaves_the_composition_before(shelf: Shelf, pipe: Any) -> None:
    with lorareg.load(pipe, BOTH, shelf.root) as loaded:
        expected = picture(pipe)
        with pytest.raises(LoraregError, match="does not fit the base"):
            loaded.swap("style/wide")
        found = picture(pipe)

    assert np.array_equal(found, expected)


def test_members_that_may_not_be_composed_are_not_loaded(shelf: Shelf, pipe: Any) -> None:
    expired = {"commercial": "none", "expires": "2020-01-01"}
    shelf.add("style/old", planted({"unet": pipe.unet}, ("to_q",), 2, 9), scope=expired)

    with pytest.raises(LoraregError) as refused:
        lorareg.load(pipe, "style/ink+style/old", shelf.root)

    assert refused.value.what == "these adapters may not be composed"
    assert "2020-01-01" in str(refused.value.why)
    assert not hasattr(pipe.unet, "peft_config")


def test_a_second_load_on_the_same_pipeline_is_refused(shelf: Shelf, pipe: Any) -> None:
    with lorareg.load(pipe, "character/face", shelf.root):
        expected = picture(pipe)
        with pytest.raises(LoraregError, match="another adapter is on the unet"):
            lorareg.load(pipe, "style/ink", shelf.root)
        assert np.array_equal(picture(pipe), expected)


def test_a_window_over_all_steps_is_the_composition_and_over_none_of_them_the_rest(
    shelf: Shelf, pipe: Any
) -> None:
    with lorareg.load(pipe, "style/ink+character/face", shelf.root):
        whole = picture(pipe)
    with lorareg.load(pipe, "style/ink+character/face{steps=0-1}", shelf.root):
        always = picture(pipe)
    with lorareg.load(pipe, "style/ink", shelf.root):
        alone = picture(pipe)
    with lorareg.load(pipe, "style/ink+character/face{steps=0-0.01}", shelf.root):
        never = picture(pipe)  # of three steps the first is at one sixth

    np.testing.assert_allclose(always, whole, **PIXELS)
    np.testing.assert_allclose(never, alone, **PIXELS)
    assert np.abs(whole - alone).max() > 0.01


def test_a_member_that_ended_reads_the_texts_of_the_next_picture_all_the_same(
    shelf: Shelf, pipe: Any
) -> None:
    with lorareg.load(pipe, "style/ink{steps=0-0.5}", shelf.root):
        first, second = picture(pipe), picture(pipe)

    assert np.array_equal(first, second)


def test_a_language_model_answers_as_with_the_merged_adapter_in_peft(tmp_path: Path) -> None:
    (tmp_path / "lorareg.yaml").write_text("schema: lorareg/1\nname: test\n", encoding="utf-8")
    shelf, model = Shelf(tmp_path), make_llama().eval()
    for seed, name in enumerate(("tone/warm", "role/doctor")):
        adapter = planted({"": model}, ("q_proj", "down_proj"), 3, seed)
        shelf.add(name, adapter, task="text-generation")
    expression = "tone/warm:0.6+role/doctor:0.3{layers.1=0.9}"
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        base = model(tokens).logits
        with lorareg.load(model, expression, tmp_path):
            found = model(tokens).logits
        after = model(tokens).logits
        adapter = compose.build(shelf.compose(expression))
        peft.write(tmp_path / "merged", adapter, "base", {})
        expected = PeftModel.from_pretrained(make_llama(), tmp_path / "merged").eval()(tokens)

    torch.testing.assert_close(found, expected.logits, atol=1e-4, rtol=1e-4)
    assert torch.equal(after, base)
    assert (found - base).abs().max() > 0.1


def test_a_language_model_has_no_steps(tmp_path: Path) -> None:
    (tmp_path / "lorareg.yaml").write_text("schema: lorareg/1\nname: test\n", encoding="utf-8")
    shelf, model = Shelf(tmp_path), make_llama()
    shelf.add("tone/warm", planted({"": model}, ("q_proj",), 2, 1), task="text-generation")

    with pytest.raises(LoraregError, match="has no denoising steps"):
        lorareg.load(model, "tone/warm{steps=0-0.5}", tmp_path)
