"""Flow-matching models small enough to make in a second: SD3 with and without T5, and Flux."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import manual_seed
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from lorareg.registry.bases.base import ResolvedBase
from tests.trainers.pico_images import SIDE, make_text_config, make_tokenizer, resolve

T5_WIDTH = 64  # as wide as both CLIPs of the tiny SD3 side by side
FLUX_SHIFT = {
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 8,
    "max_image_seq_len": 32,
}


def make_t5_tokenizer() -> PreTrainedTokenizerFast:
    """Letters for a vocabulary, T5's marks of end and padding."""
    letters = [(chr(code), -3.0) for code in range(33, 127)]
    words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *letters]
    backend = Tokenizer(models.Unigram(words, unk_id=2))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=512,
    )


def make_t5() -> T5EncoderModel:
    config = T5Config(
        vocab_size=98, d_model=T5_WIDTH, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    return T5EncoderModel(config)


def make_vae() -> AutoencoderKL:
    """Sixteen channels, and a mean that is not zero."""
    return AutoencoderKL(
        block_out_channels=(16, 16, 32),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=8,
        sample_size=SIDE,
        latent_channels=16,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def make_sd3(folder: Path, *, with_t5: bool) -> ResolvedBase:
    """Stable Diffusion 3.5: joint attention, and attention of the picture alone in one block."""
    manual_seed(13)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=T5_WIDTH,
        caption_projection_dim=32,
        pooled_projection_dim=24 + 24,
        pos_embed_max_size=12,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    text = make_text_config(24, projection_dim=24)
    pipeline = StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=make_vae(),
        text_encoder=CLIPTextModelWithProjection(text),
        tokenizer=make_tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(make_text_config(32, projection_dim=24)),
        tokenizer_2=make_tokenizer(),
        text_encoder_3=make_t5() if with_t5 else None,
        tokenizer_3=make_t5_tokenizer() if with_t5 else None,
    )
    pipeline.save_pretrained(folder)
    return resolve(folder)


def make_flux(folder: Path, **changes: Any) -> ResolvedBase:
    """Flux dev: told its guidance, and shifted more the larger the picture is."""
    manual_seed(14)
    shape: dict[str, Any] = {
        "in_channels": 16 * 4,
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 8,
        "num_attention_heads": 4,
        "joint_attention_dim": T5_WIDTH,
        "pooled_projection_dim": 32,
        "guidance_embeds": True,
        "axes_dims_rope": (2, 2, 4),
    }
    pipeline = FluxPipeline(
        transformer=FluxTransformer2DModel(**shape | changes),
        scheduler=FlowMatchEulerDiscreteScheduler(**FLUX_SHIFT),
        vae=make_vae(),
        text_encoder=CLIPTextModel(make_text_config(32)),
        tokenizer=make_tokenizer(),
        text_encoder_2=make_t5(),
        tokenizer_2=make_t5_tokenizer(),
    )
    pipeline.save_pretrained(folder)
    return resolve(folder)


@pytest.fixture(scope="session")
def pico_sd3(tmp_path_factory: pytest.TempPathFactory) -> ResolvedBase:
    """Two CLIPs and T5."""
    return make_sd3(tmp_path_factory.mktemp("models") / "pico-sd3", with_t5=True)


@pytest.fixture(scope="session")
def pico_sd3_clips(tmp_path_factory: pytest.TempPathFactory) -> ResolvedBase:
    """Two CLIPs, no T5."""
    return make_sd3(tmp_path_factory.mktemp("models") / "pico-sd3-clips", with_t5=False)


@pytest.fixture(scope="session")
def pico_flux(tmp_path_factory: pytest.TempPathFactory) -> ResolvedBase:
    """CLIP's pooled vector and T5."""
    return make_flux(tmp_path_factory.mktemp("models") / "pico-flux")


@pytest.fixture(scope="session")
def pico_schnell(tmp_path_factory: pytest.TempPathFactory) -> ResolvedBase:
    """Flux schnell: not told any guidance."""
    folder = tmp_path_factory.mktemp("models") / "pico-schnell"
    return make_flux(folder, guidance_embeds=False)
