"""The image format against diffusers itself: what we write it loads, what it writes we read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lorareg.weights.adapter import LoraAdapter, LoraLayer
from lorareg.weights.algebra import relative_difference, weighted_sum
from lorareg.weights.formats import diffusers

MakeAdapter = Callable[..., LoraAdapter]
SETTINGS = {
    "equal": lambda n: (2, 2.0),
    "alpha is not rank": lambda n: (2, 5.0),
    "mixed ranks and alphas": lambda n: (1 + n % 3, (4.0, 1.5, 3.0, 8.0)[n % 4]),
}


def make_unet() -> Any:
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=12,
        attention_head_dim=4,
        norm_num_groups=4,
    )


@pytest.fixture
def pipeline() -> Any:
    """A Stable Diffusion with random weights; the parts that LoRA does not touch are left out."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline

    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4)
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=None,
        tokenizer=None,
        unet=make_unet(),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def shapes(unet: torch.nn.Module) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Linear layers of the attention and some convolutions, (out, shape of a row of ``down``)."""
    found = {}
    for name, module in unet.named_modules():
        attention = name.endswith(("to_q", "to_k", "to_v", "to_out.0"))
        if (attention or name.endswith(("conv1", "conv_in"))) and hasattr(module, "weight"):
            out, *down = module.weight.shape
            found[name] = (out, tuple(down))
    return found


def adapter_of(unet: torch.nn.Module, make_adapter: MakeAdapter, kind: str) -> LoraAdapter:
    modules = shapes(unet)
    assert any(len(down) == 3 for _, down in modules.values()), "no convolution is tested"
    return make_adapter(modules, {m: SETTINGS[kind](n) for n, m in enumerate(modules)})


def loaded_deltas(pipeline: Any) -> dict[str, np.ndarray]:
    """What diffusers adds to each module's weight, as a matrix, with the adapter it loaded."""
    from peft.tuners.lora import LoraLayer as PeftLayer

    return {
        f"unet.{name}": module.get_delta_weight("default_0").detach().numpy().reshape(
            module.weight.shape[0], -1
        )
        for name, module in pipeline.unet.named_modules()
        if isinstance(module, PeftLayer)
    }  # fmt: skip


@pytest.mark.parametrize("kind", SETTINGS)
def test_diffusers_loads_our_file_with_the_same_delta_in_every_module(
    tmp_path: Path, pipeline: Any, make_adapter: MakeAdapter, kind: str
) -> None:
    adapter = adapter_of(pipeline.unet, make_adapter, kind)
    diffusers.write(tmp_path / diffusers.FILE, adapter, {"lorareg.asset": "character/zhangsan"})

    pipeline.load_lora_weights(tmp_path)

    found = loaded_deltas(pipeline)
    assert found.keys() == adapter.layers.keys()
    for name, layer in adapter.layers.items():
        np.testing.assert_allclose(found[name], layer.delta(), rtol=1e-4, atol=1e-5)


def test_diffusers_computes_with_our_file_what_the_dense_sum_computes(
    tmp_path: Path, pipeline: Any, make_adapter: MakeAdapter
) -> None:
    one = adapter_of(pipeline.unet, make_adapter, "mixed ranks and alphas")
    other = adapter_of(pipeline.unet, make_adapter, "alpha is not rank")
    total = weighted_sum([(one, 0.05), (other, -0.03)])
    diffusers.write(tmp_path / diffusers.FILE, total, {})
    plain = make_unet()
    with torch.no_grad():
        for name, layer in total.layers.items():
            weight = plain.get_submodule(name.removeprefix("unet.")).weight
            weight += torch.from_numpy(layer.delta()).reshape(weight.shape)
    inputs = (torch.randn(1, 4, 8, 8), torch.tensor([7]), torch.randn(1, 5, 12))

    pipeline.load_lora_weights(tmp_path)

    with torch.no_grad():
        found, expected = (unet(*inputs).sample for unet in (pipeline.unet, plain))
        base = make_unet()(*inputs).sample
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found, base, atol=1e-3), "the adapter did nothing"


def trained(unet: Any, **settings: Any) -> dict[str, LoraLayer]:
    """Put a random PEFT adapter on a UNet, and say what its factors are."""
    from peft import LoraConfig
    from peft.tuners.lora import LoraLayer as PeftLayer

    unet.add_adapter(LoraConfig(init_lora_weights=False, **settings))
    return {
        f"unet.{name}": LoraLayer(
            module.lora_A["default"].weight.detach().numpy(),
            module.lora_B["default"].weight.detach().numpy(),
            float(module.lora_alpha["default"]),
        )
        for name, module in unet.named_modules()
        if isinstance(module, PeftLayer)
    }


@pytest.mark.parametrize("convert", [True, False], ids=["diffusers keys", "PEFT keys"])
@pytest.mark.parametrize(
    "settings",
    [
        {"r": 2, "lora_alpha": 2},
        {"r": 2, "lora_alpha": 6},
        {"r": 2, "lora_alpha": 6, "rank_pattern": {"to_k": 3}, "alpha_pattern": {"attn2.to_k": 1}},
    ],
    ids=["equal", "alpha is not rank", "patterns"],
)
def test_what_diffusers_saves_is_read_with_the_same_deltas(
    tmp_path: Path, pipeline: Any, settings: dict[str, Any], convert: bool
) -> None:
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import get_peft_model_state_dict

    layers = trained(pipeline.unet, target_modules=["to_q", "to_k", "conv1"], **settings)
    state = get_peft_model_state_dict(pipeline.unet)
    pipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers=convert_state_dict_to_diffusers(state) if convert else state,
        unet_lora_adapter_metadata=pipeline.unet.peft_config["default"].to_dict(),
    )

    found = diffusers.read(tmp_path / diffusers.FILE)

    assert found.layers.keys() == layers.keys()
    assert relative_difference(found, LoraAdapter(layers)) < 1e-6
    for name, layer in layers.items():
        assert (found.layers[name].rank, found.layers[name].alpha) == (layer.rank, layer.alpha)


def test_what_diffusers_saves_without_metadata_is_read_as_diffusers_loads_it(
    tmp_path: Path, pipeline: Any
) -> None:
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import get_peft_model_state_dict

    trained(pipeline.unet, target_modules=["to_q"], r=2, lora_alpha=2)
    state = convert_state_dict_to_diffusers(get_peft_model_state_dict(pipeline.unet))
    pipeline.save_lora_weights(tmp_path, unet_lora_layers=state)
    pipeline.unet.delete_adapters("default")

    found = diffusers.read(tmp_path / diffusers.FILE)

    pipeline.load_lora_weights(tmp_path)
    for name, delta in loaded_deltas(pipeline).items():
        np.testing.assert_allclose(found.layers[name].delta(), delta, rtol=1e-4, atol=1e-6)
