"""PEFT's layers: made on a model, found in it, and the parameters in them.

Adapters are float32 whatever the base is: in bfloat16 an update of a thousandth is lost.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer as PeftLayer
from peft.utils.integrations import dequantize_module_weight

from lorareg.weights.adapter import Array

NAME = "default"  # PEFT's name for the adapter that is trained


def make(
    models: Mapping[str, torch.nn.Module],
    ranks: Mapping[str, int],
    alphas: Mapping[str, float],
    dropout: float,
    doras: Set[str],
) -> dict[str, PeftLayer]:
    """Put fresh layers on models, changed in place; every layer by its full path.

    Args:
        models: frozen, by component.
        ranks: full module path -> rank.
        alphas: full module path -> alpha.
        dropout: of the layers' inputs.
        doras: components whose layers get a magnitude.
    """
    for component, model in models.items():
        mine = [name for name in ranks if split(models, name)[0] == component]
        if mine:
            _make_in(
                model,
                {split(models, name)[1]: (ranks[name], alphas[name]) for name in mine},
                lora_dropout=dropout,
                use_dora=component in doras,
            )
    found = modules(models)
    layers = {name: found[name] for name in ranks}
    for layer in layers.values():
        layer.lora_A.float()
        layer.lora_B.float()
        if NAME in layer.lora_magnitude_vector:
            _measure_in_float32(layer.lora_magnitude_vector.float()[NAME])
    return layers


def _make_in(
    model: torch.nn.Module, shapes: Mapping[str, tuple[int, float]], **settings: Any
) -> None:
    (rank, alpha), _ = Counter(shapes.values()).most_common(1)[0]
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        **settings,
        target_modules=list(shapes),
        rank_pattern={re.escape(n): r for n, (r, _) in shapes.items() if r != rank},
        alpha_pattern={re.escape(n): a for n, (_, a) in shapes.items() if a != alpha},
        bias="none",
    )
    inject_adapter_in_model(config, model, NAME)


def modules(models: Mapping[str, torch.nn.Module]) -> dict[str, Any]:
    """Every module by its full path."""
    return {
        f"{component}.{name}" if component else name: module
        for component, model in models.items()
        for name, module in model.named_modules()
    }


def split(models: Mapping[str, torch.nn.Module], path: str) -> tuple[str, str]:
    """Component and path within it."""
    component, _, own = path.partition(".")
    return (component, own) if component in models else ("", path)


def weights(layer: PeftLayer, adapter: str = NAME) -> tuple[torch.nn.Parameter, torch.nn.Parameter]:
    """Down and up of one of a layer's adapters."""
    return layer.lora_A[adapter].weight, layer.lora_B[adapter].weight


def magnitude_of(layer: PeftLayer) -> torch.nn.Parameter | None:
    """Of a DoRA: (out,), or (1, out, 1, 1) of a convolution."""
    found = layer.lora_magnitude_vector
    return found[NAME].weight if NAME in found else None


def measure(layer: PeftLayer) -> None:
    """Begin a DoRA's magnitude at the lengths of the base's rows.

    PEFT has done so when it made the layer, but in the base's type.
    """
    dora = layer.lora_magnitude_vector[NAME]
    weight = dequantize_module_weight(layer.get_base_layer()).detach()
    with torch.no_grad():
        dora.weight.copy_(dora.get_weight_norm(weight, torch.zeros_like(weight), 1.0))


def _measure_in_float32(dora: Any) -> None:
    """Let PEFT measure the rows of a DoRA in float32, also those of a bfloat16 base.

    A length in bfloat16 is off by up to 0.4 %, and so would be the output of a fresh adapter.
    """
    measured = dora.get_weight_norm

    def get_weight_norm(
        weight: torch.Tensor, lora_weight: torch.Tensor, scaling: float, **options: Any
    ) -> Any:
        return measured(weight.float(), lora_weight.float(), scaling, **options)

    dora.get_weight_norm = get_weight_norm


def array(tensor: torch.Tensor) -> Array:
    """A copy of a float32 tensor."""
    return np.array(tensor.detach().cpu().numpy())


def fill(parameter: torch.nn.Parameter, values: Array) -> None:
    """Put values into a parameter, which stays the same object."""
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.array(values)))
