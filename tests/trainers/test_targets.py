"""Which modules each preset adapts, counted on the real architectures (without their weights)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from lorareg.errors import TrainingError
from lorareg.registry.manifest import Lora
from lorareg.trainers.image.families.known import FAMILIES
from lorareg.trainers.image.targets import denoiser_targets, encoder_targets

SDXL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SD35_MEDIUM = {
    "num_layers": 24,
    "num_attention_heads": 24,
    "caption_projection_dim": 1536,
    "pos_embed_max_size": 384,
    "dual_attention_layers": tuple(range(13)),
    "qk_norm": "rms_norm",
}
MODELS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "SD 1.5": ("sd", UNet2DConditionModel, {"cross_attention_dim": 768}),
    "SDXL": ("sdxl", UNet2DConditionModel, SDXL),
    "SD 3.5 medium": ("sd3", SD3Transformer2DModel, SD35_MEDIUM),
    "Flux dev": ("flux", FluxTransformer2DModel, {"guidance_embeds": True}),
}
# 192 and 722 are what kohya's scripts report for SD 1.5 and SDXL. They report 304 for Flux, whose
# queries, keys and values are one matrix there: 19 blocks of 10 and 38 of 3 layers. Here it is
# 19 of 14 and 38 of 6.
COUNTS = {
    "SD 1.5": {"attention": 128, "attention+ff": 192, "all-linear": 184, "kohya": 192},
    "SDXL": {"attention": 560, "attention+ff": 722, "all-linear": 743, "kohya": 722},
    "SD 3.5 medium": {"attention": 243, "attention+ff": 337, "all-linear": 392, "kohya": 385},
    "Flux dev": {"attention": 266, "attention+ff": 342, "all-linear": 504, "kohya": 494},
}


def build(name: str) -> tuple[str, torch.nn.Module]:
    family, kind, config = MODELS[name]
    with torch.device("meta"):
        return family, kind(**config)


def make_clip(kind: Any = CLIPTextModel) -> torch.nn.Module:
    """CLIP-L, the text encoder of SD 1.5."""
    with torch.device("meta"):
        return kind(CLIPTextConfig(num_hidden_layers=12))


@pytest.mark.parametrize("name", MODELS)
def test_each_preset_adapts_as_many_modules_as_it_should(name: str) -> None:
    family, model = build(name)

    found = {
        preset: len(denoiser_targets(model, FAMILIES[family], Lora(targets=preset)))
        for preset in ("attention", "attention+ff", "all-linear", "kohya")
    }

    assert found == COUNTS[name]


@pytest.mark.parametrize("name", MODELS)
def test_kohya_s_modules_are_linear_or_pointwise_and_within_the_transformer(name: str) -> None:
    family, model = build(name)

    found = denoiser_targets(model, FAMILIES[family], Lora(targets="kohya"))

    kinds = {type(model.get_submodule(path)) for path in found}
    assert kinds <= {torch.nn.Linear, torch.nn.Conv2d}
    assert all("attentions" in path or "transformer_blocks" in path for path in found)
    assert not any("resnets" in path for path in found)


def test_kohya_takes_the_convolutions_around_attention_too() -> None:
    family, model = build("SD 1.5")

    found = denoiser_targets(model, FAMILIES[family], Lora(targets="kohya"))

    convolutions = [n for n in found if isinstance(model.get_submodule(n), torch.nn.Conv2d)]
    assert len(convolutions) == 32
    assert {name.rpartition(".")[2] for name in convolutions} == {"proj_in", "proj_out"}


def test_kohya_adapts_the_modulation_of_transformers() -> None:
    family, model = build("Flux dev")

    found = denoiser_targets(model, FAMILIES[family], Lora(targets="kohya"))

    assert "transformer_blocks.0.norm1.linear" in found
    assert "single_transformer_blocks.37.proj_mlp" in found
    assert "proj_out" not in found


def test_attention_of_stable_diffusion_3_5_includes_the_picture_s_own() -> None:
    family, model = build("SD 3.5 medium")

    found = denoiser_targets(model, FAMILIES[family], Lora(targets="attention"))

    assert "transformer_blocks.0.attn2.to_q" in found
    assert "transformer_blocks.0.attn.add_q_proj" in found


@pytest.mark.parametrize(
    ("preset", "count"), [("attention", 48), ("attention+ff", 72), ("kohya", 72)]
)
@pytest.mark.parametrize("kind", [CLIPTextModel, CLIPTextModelWithProjection])
def test_text_encoders_have_presets_of_their_own(kind: Any, preset: Any, count: int) -> None:
    assert len(encoder_targets(make_clip(kind), Lora(targets=preset))) == count


def test_endings_choose_in_the_denoiser_and_in_the_text_encoder() -> None:
    family, model = build("SD 1.5")
    lora = Lora(targets=("attn2.to_k", "q_proj"))

    assert len(denoiser_targets(model, FAMILIES[family], lora)) == 16
    assert len(encoder_targets(make_clip(), lora)) == 12


def test_endings_that_name_no_layer_of_the_text_encoder_are_refused() -> None:
    with pytest.raises(TrainingError, match="no layer of the text encoder") as caught:
        encoder_targets(make_clip(), Lora(targets=("to_q", "to_k")))

    assert "q_proj" in caught.value.fix
