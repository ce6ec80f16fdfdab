"""Which modules of a text-to-image base are adapted: presets a family, or ends of names."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lorareg.errors import TrainingError
from lorareg.registry.manifest import Lora
from lorareg.trainers.adapters.inject import module_names
from lorareg.trainers.image.families.family import Family

CLIP_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
CLIP_FEED_FORWARD = ("fc1", "fc2")


def denoiser_targets(model: torch.nn.Module, family: Family, lora: Lora) -> list[str]:
    """Names of the denoiser's modules to adapt.

    Raises:
        TrainingError: nothing matches; names what there is to match.
    """
    match lora.targets:
        case "attention":
            return module_names(model, family.attention)
        case "attention+ff":
            return module_names(model, family.attention + family.feed_forward)
        case "all-linear":
            return module_names(model, None)
        case "kohya":
            return within(model, family.blocks)
        case endings:
            return module_names(model, endings)


def encoder_targets(model: torch.nn.Module, lora: Lora) -> list[str]:
    """Names of a CLIP text encoder's modules to adapt: what diffusers loads, layers only.

    Raises:
        TrainingError: a list of endings that names none of them.
    """
    every = CLIP_ATTENTION + CLIP_FEED_FORWARD
    match lora.targets:
        case "attention":
            return module_names(model, CLIP_ATTENTION)
        case "attention+ff" | "all-linear" | "kohya":
            return module_names(model, every)
        case endings:
            chosen = [name for name in endings if name.rpartition(".")[2] in every]
            if chosen:
                return module_names(model, chosen)
    raise TrainingError(
        f"lora.targets {', '.join(endings)} match no layer of the text encoder",
        why="lora.text_encoder is true, and its layers end in " + ", ".join(every),
        fix=f"add {', '.join(CLIP_ATTENTION)} to lora.targets, or set lora.text_encoder: false",
    )


def within(model: torch.nn.Module, classes: Sequence[str]) -> list[str]:
    """Names of the linear layers and 1x1 convolutions inside blocks of these classes.

    Source: kohya-ss/sd-scripts, networks/lora.py, lora_sd3.py and lora_flux.py
    """
    found: dict[str, None] = {}
    for block, module in model.named_modules():
        if type(module).__name__ not in classes:
            continue
        for name, layer in module.named_modules(prefix=block):
            pointwise = isinstance(layer, torch.nn.Conv2d) and layer.kernel_size == (1, 1)
            if pointwise or isinstance(layer, torch.nn.Linear):
                found[name] = None
    return list(found)
