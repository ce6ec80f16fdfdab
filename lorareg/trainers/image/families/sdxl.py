"""Stable Diffusion XL: two CLIPs side by side, and the frame of the picture (arXiv 2307.01952)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from lorareg.trainers.image.families.family import Conditions, Reader
from lorareg.trainers.image.families.sd import SD


def predict(
    model: Any, noisy: torch.Tensor, t: torch.Tensor, conditions: Conditions
) -> torch.Tensor:
    """The UNet's answer."""
    first, second = conditions.texts["text_encoder"], conditions.texts["text_encoder_2"]
    added = {
        "text_embeds": second["pooled"],
        # not rounded to bfloat16, which would call a side of 1023 pixels 1024
        "time_ids": conditions.frames,
    }
    states = torch.cat([first["states"], second["states"]], dim=-1)
    found: torch.Tensor = model(
        noisy, t, encoder_hidden_states=states, added_cond_kwargs=added
    ).sample
    return found


SDXL = replace(
    SD,
    name="sdxl",
    title="Stable Diffusion XL",
    pipeline="StableDiffusionXLPipeline",
    readers=(
        Reader("text_encoder", "tokenizer", "CLIPTextModel", ("states",), penultimate=True),
        Reader(
            "text_encoder_2",
            "tokenizer_2",
            "CLIPTextModelWithProjection",
            ("states", "pooled"),
            penultimate=True,
        ),
    ),
    predict=predict,
)
