"""kohya's form against diffusers' loader, and against the key rules of A1111 and ComfyUI."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from lorareg.errors import InvalidFileError, LoraregError
from lorareg.registry import tensors
from lorareg.registry.header import read_header
from lorareg.registry.tensors import RawTensor
from lorareg.weights.adapter import Array, LoraAdapter, LoraLayer, to_raw
from lorareg.weights.exporting import reload
from lorareg.weights.formats import fused, kohya, modulenames
from tests.weights.conftest import random_layer

MakeAdapter = Callable[..., LoraAdapter]
TARGETS = re.compile(
    r"(to_[qkv]|to_out\.0|proj_in|proj_out|ff\.net\.0\.proj|ff\.net\.2|conv[12]?|conv_shortcut|conv_in"
    r"|time_emb_proj|[qkv]_proj|out_proj|fc[12])$"
)
A1111_UNET = re.compile(
    r"lora_unet_(down_blocks_\d+_(attentions|resnets|downsamplers)_\d+_|mid_block_(attentions|resnets)"
    r"_\d+_|up_blocks_\d+_(attentions|resnets|upsamplers)_\d+_|conv_in|conv_out|time_embedding_).*"
)
A1111_ENCODER = re.compile(r"_text_model_encoder_layers_\d+_(self_attn|mlp)_\w+")


def make_unet(**more: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=12, attention_head_dim=4, norm_num_groups=4, **more,
    )  # fmt: skip


def make_encoder(projected: bool) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=20, hidden_size=12, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=8,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def make_pipeline(family: str) -> Any:
    """A pipeline with random weights; what LoRA does not touch is left out."""
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        StableDiffusionXLPipeline,
    )

    parts = {
        "vae": AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4),
        "scheduler": DDIMScheduler(steps_offset=1, clip_sample=False),
        "unet": make_unet(),
        "tokenizer": None,
        "text_encoder": make_encoder(projected=False),
    }
    if family == "sdxl":
        parts |= {"text_encoder_2": make_encoder(projected=True), "tokenizer_2": None}
        return StableDiffusionXLPipeline(**parts)
    return StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None)


def components(pipeline: Any) -> dict[str, Any]:
    names = ("unet", "text_encoder", "text_encoder_2")
    return {name: part for name in names if (part := getattr(pipeline, name, None)) is not None}


def adapter_of(pipeline: Any, make_adapter: MakeAdapter) -> LoraAdapter:
    """Every layer that kohya's scripts adapt, with ranks and alphas that differ."""
    layers: dict[str, LoraLayer] = {}
    for component, model in components(pipeline).items():
        shapes = {
            name: (module.weight.shape[0], tuple(module.weight.shape[1:]))
            for name, module in model.named_modules()
            if TARGETS.search(name) and hasattr(module, "weight")
        }
        chosen = {n: (1 + i % 3, (4.0, 1.5, 3.0, 8.0)[i % 4]) for i, n in enumerate(shapes)}
        layers |= make_adapter(shapes, chosen, component).layers
    return LoraAdapter(layers)


def loaded_deltas(pipeline: Any) -> dict[str, Array]:
    from peft.tuners.lora import LoraLayer as PeftLayer

    return {
        f"{component}.{name}": module.get_delta_weight("default_0").detach().numpy().reshape(
            module.weight.shape[0], -1
        )
        for component, model in components(pipeline).items()
        for name, module in model.named_modules()
        if isinstance(module, PeftLayer)
    }  # fmt: skip


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_diffusers_loads_unet_and_text_encoders_with_the_same_delta_in_every_module(
    tmp_path: Path, family: str, make_adapter: MakeAdapter
) -> None:
    pipeline = make_pipeline(family)
    adapter = adapter_of(pipeline, make_adapter)
    kohya.write(tmp_path / "ink.safetensors", adapter, family, {})

    pipeline.load_lora_weights(tmp_path, weight_name="ink.safetensors")

    found = loaded_deltas(pipeline)
    assert found.keys() == adapter.layers.keys()
    for name, layer in adapter.layers.items():
        wanted = layer.delta()
        assert np.linalg.norm(found[name] - wanted) <= 1e-5 * np.linalg.norm(wanted), name


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_every_key_is_one_that_a1111_and_comfyui_know(
    tmp_path: Path, family: str, make_adapter: MakeAdapter
) -> None:
    adapter = adapter_of(make_pipeline(family), make_adapter)

    kohya.write(tmp_path / "ink.safetensors", adapter, family, {})

    names = {e.name.partition(".")[0] for e in read_header(tmp_path / "ink.safetensors").tensors}
    encoders = ("lora_te1", "lora_te2") if family == "sdxl" else ("lora_te",)
    unet = {name for name in names if name.startswith("lora_unet_")}
    assert all(A1111_UNET.fullmatch(name) for name in unet)
    for name in names - unet:
        prefix, found = name.partition("_text_model_")[0], A1111_ENCODER.search(name)
        assert prefix in encoders, name
        assert found, name
    assert len(names) == len(adapter.layers)


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.floats(-8, 8, width=16).filter(lambda x: abs(x) > 0.01)),
        min_size=1, max_size=6,
    )
)  # fmt: skip
def test_one_alpha_is_written_and_no_delta_changes(
    tmp_path_factory: pytest.TempPathFactory, chosen: list[tuple[int, float]]
) -> None:
    file = tmp_path_factory.mktemp("kohya") / "ink.safetensors"
    adapter = LoraAdapter({
        f"unet.mid_block.attentions.{number}.proj_in": random_layer(rank, alpha, seed=number)
        for number, (rank, alpha) in enumerate(chosen)
    })  # fmt: skip

    kohya.write(file, adapter, "sd1", {})

    raw, _ = tensors.read(file)
    assert len({raw[key].data for key in raw if key.endswith(".alpha")}) == 1
    assert reload.compare(kohya.read(file), adapter, "kohya") <= 1e-6


def test_q_alone_in_a_text_encoder_is_loaded_by_diffusers_too(tmp_path: Path) -> None:
    layers = {
        f"text_encoder.encoder.layers.{n}.{m}": random_layer(2, 3.0, (12,), 12, n)
        for n, m in enumerate(["self_attn.q_proj", "mlp.fc1"])
    }
    adapter = LoraAdapter(layers)
    kohya.write(tmp_path / "q.safetensors", adapter, "sd1", {})

    found = reload.by_diffusers(tmp_path / "q.safetensors", "sd1", adapter)

    assert reload.compare(found, adapter, "diffusers") <= 1e-5


def test_flux_is_written_with_its_own_fused_modules_and_diffusers_takes_them_apart(
    tmp_path: Path,
) -> None:
    wide = 3072  # the width that diffusers' converter takes for granted
    blocks = "transformer.transformer_blocks.0", "transformer.single_transformer_blocks.0"
    layers = {
        f"{blocks[0]}.attn.to_q": random_layer(1, 1.0, (wide,), wide, 1),
        f"{blocks[0]}.attn.to_k": random_layer(2, 3.0, (wide,), wide, 2),
        f"{blocks[0]}.attn.add_v_proj": random_layer(1, 2.0, (wide,), wide, 3),
        f"{blocks[1]}.attn.to_v": random_layer(1, 2.0, (wide,), wide, 4),
        f"{blocks[1]}.proj_out": random_layer(1, 2.0, (5 * wide,), wide, 5),
    }
    adapter = LoraAdapter(layers)
    kohya.write(tmp_path / "flux.safetensors", adapter, "flux1", {})

    own = kohya.read(tmp_path / "flux.safetensors")
    theirs = reload.by_diffusers(tmp_path / "flux.safetensors", "flux1", adapter)

    assert own.layers.keys() == layers.keys()
    assert {name: layer.rank for name, layer in own.layers.items()} == {
        name: layer.rank for name, layer in layers.items()
    }
    assert max(reload.compare(found, adapter, "flux") for found in (own, theirs)) <= 1e-5


def test_a_fused_module_of_sd3_comes_back_as_its_parts(tmp_path: Path) -> None:
    block = "transformer.transformer_blocks.3"
    adapter = LoraAdapter({
        f"{block}.attn.to_q": random_layer(2, 4.0, (8,), 8, 1),
        f"{block}.attn.add_k_proj": random_layer(3, 1.0, (8,), 8, 2),
        f"{block}.ff_context.net.2": random_layer(2, 2.0, (32,), 8, 3),
    })  # fmt: skip

    kohya.write(tmp_path / "sd3.safetensors", adapter, "sd3", {})

    names = {e.name.partition(".")[0] for e in read_header(tmp_path / "sd3.safetensors").tensors}
    assert "lora_unet_joint_blocks_3_x_block_attn_qkv" in names
    assert reload.compare(kohya.read(tmp_path / "sd3.safetensors"), adapter, "own") <= 1e-6


def test_names_come_back_from_flat_ones_for_every_module_of_real_models() -> None:
    models = [make_unet(), make_encoder(projected=True)]
    names = [name for m in models for name, part in m.named_modules() if hasattr(part, "weight")]
    wanted = [name for name in names if TARGETS.search(name)]

    assert len(wanted) > 60
    assert [modulenames.path_of(modulenames.flattened(name)) for name in wanted] == wanted


def test_sgm_names_of_sdxl_mean_what_diffusers_makes_of_them() -> None:
    from diffusers.loaders import lora_conversion_utils as theirs

    inner = "transformer_blocks_1_attn2_to_q"
    flat = [
        *(f"input_blocks_{n}_1_{inner}" for n in (4, 5, 7, 8)),
        *(f"output_blocks_{n}_1_{inner}" for n in range(6)),
        f"middle_block_1_{inner}",
        *(f"input_blocks_{n}_0_in_layers_2" for n in (1, 2, 4, 8)),
        *(f"output_blocks_{n}_0_out_layers_3" for n in (0, 5, 8)),
        "middle_block_0_emb_layers_1", "middle_block_2_skip_connection",
        "input_blocks_3_0_op", "input_blocks_6_0_op", "output_blocks_2_2_conv",
        "output_blocks_5_2_conv", "input_blocks_0_0", "time_embed_0", "label_emb_0_2", "out_2",
    ]  # fmt: skip
    keys = [f"lora_unet_{name}.lora_down.weight" for name in flat]

    for name, key in zip(flat, keys, strict=True):
        (mapped,) = theirs._maybe_map_sgm_blocks_to_diffusers(
            {key: None}, SimpleNamespace(layers_per_block=2)
        )
        path = theirs._convert_unet_lora_key(mapped).replace(".processor", "")
        path = re.sub(r"[._]lora\.down\.weight$", "", path)
        assert modulenames.path_of(name) == path, name


def write_raw(path: Path, found: Mapping[str, Array | RawTensor]) -> Path:
    raw = {k: v if isinstance(v, RawTensor) else to_raw(v) for k, v in found.items()}
    tensors.write(path, raw, {})
    return path


MODULE = "lora_unet_mid_block_attentions_0_proj_in"
PATH = "unet.mid_block.attentions.0.proj_in"


def ones(*shape: int) -> Array:
    return np.full(shape, 0.5, np.float32)


def test_without_alpha_the_scale_is_one_and_an_integer_is_an_alpha_too(tmp_path: Path) -> None:
    pair = {f"{MODULE}.lora_down.weight": ones(4, 6), f"{MODULE}.lora_up.weight": ones(5, 4)}
    whole = RawTensor("I64", (), (2).to_bytes(8, "little"))

    bare = kohya.read(write_raw(tmp_path / "bare.safetensors", pair))
    told = kohya.read(write_raw(tmp_path / "t.safetensors", pair | {f"{MODULE}.alpha": whole}))

    assert bare.layers[PATH].scale == 1.0
    assert told.layers[PATH].scale == 0.5


def test_a_loha_and_a_lokr_are_read_as_the_lora_of_the_same_delta(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    draw = {
        "hada_w1_a": (5, 2), "hada_w1_b": (2, 6), "hada_w2_a": (5, 2), "hada_w2_b": (2, 6),
        "lokr_w1": (2, 3), "lokr_w2_a": (4, 2), "lokr_w2_b": (2, 5),
    }  # fmt: skip
    found = {name: random.standard_normal(shape).astype("f4") for name, shape in draw.items()}
    other = MODULE.replace("_in", "_out")
    raw: dict[str, Array] = {
        f"{MODULE if name.startswith('hada') else other}.{name}": x for name, x in found.items()
    }
    raw |= {f"{MODULE}.alpha": np.float32(1.0), f"{other}.alpha": np.float32(4.0)}

    read = kohya.read(write_raw(tmp_path / "lycoris.safetensors", raw)).layers

    loha = (found["hada_w1_a"] @ found["hada_w1_b"]) * (found["hada_w2_a"] @ found["hada_w2_b"])
    lokr = np.kron(found["lokr_w1"], found["lokr_w2_a"] @ found["lokr_w2_b"])
    np.testing.assert_allclose(read[PATH].delta(), 0.5 * loha, rtol=1e-4, atol=1e-5)
    out = PATH.replace("_in", "_out")
    np.testing.assert_allclose(read[out].delta(), 2.0 * lokr, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("lora_unet_down_blocks_0_magic_to_q.lora_down.weight", "no LoRA, LoHa or LoKr"),
        (f"{MODULE}.oft_blocks", "OFT"),
        (f"{MODULE}.mystery", "mystery"),
        ("lora_te3_encoder_block_0_layer_0_SelfAttention_q.alpha", "lora_te3"),
    ],
)
def test_a_key_that_is_not_understood_is_named_and_the_file_refused(
    tmp_path: Path, key: str, reason: str
) -> None:
    pair = {f"{MODULE}.lora_down.weight": ones(4, 6), f"{MODULE}.lora_up.weight": ones(5, 4)}
    file = write_raw(tmp_path / "odd.safetensors", pair | {key: ones(2, 2)})

    with pytest.raises(InvalidFileError) as refused:
        kohya.read(file)

    assert key in refused.value.why
    assert reason in refused.value.why


def test_a_dora_and_a_module_without_a_name_are_refused() -> None:
    plain = random_layer(2, 2.0)
    dora = LoraLayer(plain.down, plain.up, 2.0, np.ones(5, np.float32))

    with pytest.raises(LoraregError, match="DoRA"):
        kohya.raw(LoraAdapter({PATH: dora}), "sd1")
    with pytest.raises(LoraregError, match="no name") as refused:
        kohya.raw(LoraAdapter({"unet.my_block.to_q": plain}), "sd1")
    assert "unet.my_block.to_q" in refused.value.why


def test_rows_that_are_not_of_the_parts_of_a_fused_module_are_refused() -> None:
    with pytest.raises(ValueError, match="7 rows"):
        fused.parted("double_blocks_0_img_attn_qkv", random_layer(2, 2.0, (6,), 7))


def test_a_file_that_a_reader_makes_something_else_of_is_named_layer_by_layer() -> None:
    one, other = (LoraAdapter({PATH: random_layer(2, alpha)}) for alpha in (2.0, 2.001))

    with pytest.raises(LoraregError, match="not kept") as refused:
        reload.compare(other, one, "diffusers")

    assert f"{PATH}: differs by 5.0e-04" in refused.value.why


def test_a_proof_leaves_the_libraries_as_they_were(tmp_path: Path) -> None:
    encoder = "text_encoder.text_model.encoder.layers.0.mlp.fc1"
    adapter = LoraAdapter({encoder: random_layer(2, 2.0, (12,), 16)})
    kohya.write(tmp_path / "te.safetensors", adapter, "sd1", {})

    reload.by_diffusers(tmp_path / "te.safetensors", "sd1", adapter)

    make_encoder(projected=True)  # asks its classes what they may be set to
    assert not [name for name in vars(PreTrainedModel) if name.endswith("_cached_value")]
