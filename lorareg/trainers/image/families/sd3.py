"""Stable Diffusion 3 and 3.5: a transformer, two CLIPs and, if it is there, T5 (arXiv 2403.03206).

Source: diffusers, StableDiffusion3Pipeline.encode_prompt.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from lorareg.trainers.image.families.family import Conditions, Family, Reader

ATTENTION = (
    "to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",
)  # fmt: skip
FEED_FORWARD = ("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2")
T5_TOKENS = 256  # what the pipeline reads unless told otherwise
CLIP = Reader(
    "text_encoder",
    "tokenizer",
    "CLIPTextModelWithProjection",
    ("states", "pooled"),
    penultimate=True,
)


def predict(
    model: Any, noisy: torch.Tensor, t: torch.Tensor, conditions: Conditions
) -> torch.Tensor:
    """The transformer's answer."""
    first, second = conditions.texts["text_encoder"], conditions.texts["text_encoder_2"]
    clip = torch.cat([first["states"], second["states"]], dim=-1)
    width = int(model.config.joint_attention_dim)
    clip = torch.nn.functional.pad(clip, (0, width - clip.shape[-1]))
    if "text_encoder_3" in conditions.texts:
        words = conditions.texts["text_encoder_3"]["states"]
    else:  # the pipeline puts zeros where a base comes without T5
        words = clip.new_zeros(len(clip), T5_TOKENS, width)
    found: torch.Tensor = model(
        hidden_states=noisy,
        timestep=t,
        encoder_hidden_states=torch.cat([clip, words], dim=1),
        pooled_projections=torch.cat([first["pooled"], second["pooled"]], dim=-1),
    ).sample
    return found


SD3 = Family(
    name="sd3",
    title="Stable Diffusion 3",
    pipeline="StableDiffusion3Pipeline",
    component="transformer",
    denoiser="SD3Transformer2DModel",
    readers=(
        CLIP,
        replace(CLIP, encoder="text_encoder_2", tokenizer="tokenizer_2"),
        Reader("text_encoder_3", "tokenizer_3", "T5EncoderModel", ("states",), length=T5_TOKENS),
    ),
    process="flow",
    patch=2,
    attention=ATTENTION,
    feed_forward=FEED_FORWARD,
    blocks=("JointTransformerBlock",),
    predict=predict,
    optional=("text_encoder_3",),
)
