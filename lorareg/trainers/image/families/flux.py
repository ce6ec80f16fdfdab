"""Flux.1: a transformer over patches of 2 x 2 latent pixels, T5's states, CLIP's pooled vector.

Source: diffusers, FluxPipeline.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from lorareg.trainers.image.families.family import Conditions, Family, Reader
from lorareg.trainers.image.families.sd3 import ATTENTION, FEED_FORWARD

T5_TOKENS = 512  # what the pipeline reads unless told otherwise


def predict(
    model: Any, noisy: torch.Tensor, t: torch.Tensor, conditions: Conditions
) -> torch.Tensor:
    """The transformer's answer."""
    rows, _, height, width = noisy.shape
    words = conditions.texts["text_encoder_2"]["states"]
    guidance = None
    if model.config.guidance_embeds:
        guidance = torch.full((rows,), conditions.guidance, device=noisy.device)
    found = model(
        hidden_states=packed(noisy),
        timestep=t / 1000,
        guidance=guidance,
        pooled_projections=conditions.texts["text_encoder"]["pooled"],
        encoder_hidden_states=words,
        txt_ids=torch.zeros(words.shape[1], 3, device=noisy.device),
        img_ids=places(height // 2, width // 2).to(noisy.device),
    ).sample
    return unpacked(found, height, width)


def packed(latents: torch.Tensor) -> torch.Tensor:
    """Patches of 2 x 2 as tokens: (R, C, h, w) to (R, h w / 4, 4 C)."""
    return pixel_unshuffle(latents, 2).flatten(2).transpose(1, 2)


def unpacked(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Tokens as latents again; height and width in latent pixels."""
    rows, _, channels = tokens.shape
    patches = tokens.transpose(1, 2).reshape(rows, channels, height // 2, width // 2)
    return pixel_shuffle(patches, 2)


def places(rows: int, columns: int) -> torch.Tensor:
    """Where each token is in the picture: (rows * columns, 3) of (0, row, column)."""
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    found = torch.stack([torch.zeros_like(row), row, column], dim=-1)
    return found.reshape(-1, 3).float()


FLUX = Family(
    name="flux",
    title="Flux",
    pipeline="FluxPipeline",
    component="transformer",
    denoiser="FluxTransformer2DModel",
    readers=(
        Reader("text_encoder", "tokenizer", "CLIPTextModel", ("pooled",)),
        Reader("text_encoder_2", "tokenizer_2", "T5EncoderModel", ("states",), length=T5_TOKENS),
    ),
    process="flow",
    patch=2,
    attention=ATTENTION,
    # its single blocks have another feed-forward (proj_mlp, proj_out), which "kohya" adapts too
    feed_forward=FEED_FORWARD,
    blocks=("FluxTransformerBlock", "FluxSingleTransformerBlock"),
    predict=predict,
)
