"""Stable Diffusion 1.x and 2.x: a UNet that reads the states of one CLIP (arXiv 2112.10752)."""

from __future__ import annotations

from typing import Any

import torch

from lorareg.trainers.image.families.family import Conditions, Family, Reader

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
FEED_FORWARD = ("ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")


def predict(
    model: Any, noisy: torch.Tensor, t: torch.Tensor, conditions: Conditions
) -> torch.Tensor:
    """The UNet's answer."""
    states = conditions.texts["text_encoder"]["states"]
    found: torch.Tensor = model(noisy, t, encoder_hidden_states=states).sample
    return found


SD = Family(
    name="sd",
    title="Stable Diffusion",
    pipeline="StableDiffusionPipeline",
    component="unet",
    denoiser="UNet2DConditionModel",
    readers=(Reader("text_encoder", "tokenizer", "CLIPTextModel", ("states",)),),
    process="diffusion",
    patch=1,
    attention=ATTENTION,
    feed_forward=FEED_FORWARD,
    blocks=("Transformer2DModel",),
    predict=predict,
)
