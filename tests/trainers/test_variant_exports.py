"""What a variant is written as, loaded by the libraries it is for."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from peft import PeftModel
from transformers import CLIPTextModel

from lorareg.registry.manifest import Lora
from lorareg.trainers.adapters.inject import Adapters, apply, inject, module_names, ranks_of
from lorareg.trainers.core.randomness import Draws
from lorareg.weights.formats import diffusers, peft
from tests.trainers.conftest import make_llama
from tests.trainers.pico_images import (
    SCHEDULE,
    make_text_config,
    make_tokenizer,
    make_unet,
    make_vae,
)

VARIANTS: dict[str, dict[str, Any]] = {
    "lora": {},
    "ranks by pattern": {"rank_pattern": {"*layers.0*": 3, "*transformer_blocks*": 5}},
    "rslora": {"use_rslora": True},
    "rslora, ranks by pattern": {"use_rslora": True, "rank_pattern": {"*layers.0*": 3}},
    "dora": {"use_dora": True},
    "dora with rslora": {"use_dora": True, "use_rslora": True},
    "pissa": {"init": "pissa"},
}
TOKENS = torch.tensor([[1, 5, 9, 2, 7, 30]])
LANGUAGE = ("q_proj", "o_proj", "down_proj")
IMAGE = {"unet": ("to_q", "to_out.0", "conv1", "proj_in"), "text_encoder": ("q_proj", "fc1")}


def put(models: Mapping[str, Any], endings: Mapping[str, Any], variant: str) -> Adapters:
    """Inject, and move every factor as training would."""
    lora = Lora(rank=4, alpha=6, **VARIANTS[variant])
    names = [
        f"{component}.{name}".lstrip(".")
        for component, model in models.items()
        for name in module_names(model, endings[component])
    ]
    adapters = inject(models, ranks_of(names, lora), lora, Draws(42))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in adapters.named_parameters().items():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith(".magnitude"):
                parameter.mul_(1 + 0.2 * noise)
            else:
                parameter.add_(0.1 * noise)
    return adapters


@pytest.fixture(scope="module")
def llama() -> Any:
    return make_llama().requires_grad_(False).eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(TOKENS).logits
    return found


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "ranks by pattern"])
def test_peft_loads_the_folder_and_gives_the_logits_of_the_trained_model(
    tmp_path: Path, llama: Any, variant: str
) -> None:
    trained = copy.deepcopy(llama)
    adapters = put({"": trained}, {"": LANGUAGE}, variant)

    peft.write(tmp_path, adapters.snapshot(), "org/base", {})

    loaded = PeftModel.from_pretrained(copy.deepcopy(llama), tmp_path)
    torch.testing.assert_close(logits(loaded), logits(trained), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits(trained), logits(llama), atol=0.1)
    read = apply({"": copy.deepcopy(llama)}, peft.read(tmp_path))
    torch.testing.assert_close(logits(read.models[""]), logits(trained), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    torch.manual_seed(11)
    return StableDiffusionPipeline(
        vae=make_vae(),
        text_encoder=CLIPTextModel(make_text_config(32)).requires_grad_(False).eval(),
        tokenizer=make_tokenizer(),
        unet=make_unet(use_linear_projection=True).requires_grad_(False).eval(),
        scheduler=DDIMScheduler(**SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def computed(pipe: StableDiffusionPipeline) -> torch.Tensor:
    """The denoiser's output on the text encoder's: both components count."""
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        text = pipe.text_encoder(torch.tensor([[0, 40, 60, 80, 1]])).last_hidden_state
        found: torch.Tensor = pipe.unet(noisy, torch.tensor(500), text).sample
    return found


@pytest.mark.parametrize(
    ("variant", "parts"),
    [("lora", ("unet",)), ("dora", ("unet",))]
    + [(variant, ("unet", "text_encoder")) for variant in VARIANTS],
)
def test_diffusers_loads_the_file_and_computes_what_the_trained_models_compute(
    tmp_path: Path, pipeline: StableDiffusionPipeline, variant: str, parts: tuple[str, ...]
) -> None:
    fresh, trained = copy.deepcopy(pipeline), copy.deepcopy(pipeline)
    adapters = put({part: getattr(trained, part) for part in parts}, IMAGE, variant)

    diffusers.write(tmp_path / diffusers.FILE, adapters.snapshot(), {})
    fresh.load_lora_weights(tmp_path, weight_name=diffusers.FILE)

    torch.testing.assert_close(computed(fresh), computed(trained), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(computed(trained), computed(pipeline), atol=1e-2)
