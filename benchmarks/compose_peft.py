"""PEFT's own way to compress a weighted sum, on a UNet of Stable Diffusion 1.5's shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, PeftModel, get_peft_model

from benchmarks.compose import Cost, measured
from lorareg.weights.adapter import LoraAdapter, LoraLayer

TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"]
PREFIX = "base_model.model."


def run(parts: Sequence[tuple[LoraAdapter, float]], rank: int) -> tuple[LoraAdapter, Cost]:
    """``add_weighted_adapter(combination_type="svd")`` as PEFT's defaults have it, once."""
    torch.set_num_threads(1)
    model = _with_adapters([adapter for adapter, _ in parts])
    names = [f"part{number}" for number in range(len(parts))]
    weights = [weight for _, weight in parts]

    def merge() -> None:
        model.add_weighted_adapter(names, weights, "merged", combination_type="svd", svd_rank=rank)

    with torch.no_grad():
        _, cost = measured(merge, rounds=1)
    return _read(model, "merged"), cost


def _with_adapters(adapters: Sequence[LoraAdapter]) -> PeftModel:
    unet = UNet2DConditionModel(cross_attention_dim=768, sample_size=64)
    model: Any = None
    for number, adapter in enumerate(adapters):
        some = next(iter(adapter.layers.values()))
        config = LoraConfig(r=adapter.rank, lora_alpha=some.alpha, target_modules=TARGETS)
        if model is None:
            model = get_peft_model(unet, config, adapter_name=f"part{number}")
        else:
            model.add_adapter(f"part{number}", config)
        _write(model, f"part{number}", adapter)
    return model


def _lora_modules(model: PeftModel) -> dict[str, Any]:
    return {
        f"unet.{path.removeprefix(PREFIX)}": module
        for path, module in model.named_modules()
        if hasattr(module, "lora_A")
    }


def _write(model: PeftModel, name: str, adapter: LoraAdapter) -> None:
    modules = _lora_modules(model)
    if modules.keys() != adapter.layers.keys():
        raise ValueError("PEFT adapts other modules than the adapters have")
    with torch.no_grad():
        for path, module in modules.items():
            layer = adapter.layers[path]
            module.lora_A[name].weight.copy_(torch.from_numpy(layer.down))
            module.lora_B[name].weight.copy_(torch.from_numpy(layer.up))


def _read(model: PeftModel, name: str) -> LoraAdapter:
    layers = {}
    for path, module in _lora_modules(model).items():
        down, up = (m[name].weight.detach().numpy() for m in (module.lora_A, module.lora_B))
        layers[path] = LoraLayer(down, up, module.scaling[name] * len(down))
    return LoraAdapter(layers)
