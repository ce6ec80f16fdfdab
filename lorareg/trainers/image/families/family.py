"""What the trainer asks of a family of text-to-image bases; all else is the same for every one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

Fields = Mapping[str, torch.Tensor]
"""What one text encoder says of some captions: "states" (R, tokens, width), "pooled" (R, width)."""


@dataclass(frozen=True)
class Reader:
    """One text encoder of a base, and what of it the denoiser is told.

    Attributes:
        encoder: component of the pipeline.
        tokenizer: component of the pipeline.
        kind: the encoder's class in transformers.
        fields: which of "states" and "pooled" are used.
        penultimate: whether the states are those before the last layer, without the final norm.
        length: tokens that are read; None takes the tokenizer's own limit.
    """

    encoder: str
    tokenizer: str
    kind: str
    fields: tuple[str, ...]
    penultimate: bool = False
    length: int | None = None

    @property
    def is_clip(self) -> bool:
        """CLIP encoders can be adapted; the other one, T5, is too large to gain from it."""
        return self.kind.startswith("CLIP")

    def tokens(self, tokenizer: Any, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and attention mask, each (R, length), cut off and filled up to the length."""
        coded = tokenizer(
            list(texts),
            padding="max_length",
            max_length=self.length or tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        return coded.input_ids, coded.attention_mask

    def read(self, model: Any, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """The used fields of some captions, exactly as the pipeline computes them."""
        # diffusers' pipelines pass no mask unless the encoder's config asks for it
        known = mask if getattr(model.config, "use_attention_mask", False) else None
        out = model(ids, attention_mask=known, output_hidden_states=self.penultimate)
        found = {}
        if "states" in self.fields:
            found["states"] = out.hidden_states[-2] if self.penultimate else out.last_hidden_state
        if "pooled" in self.fields:
            projected = self.kind.endswith("WithProjection")
            found["pooled"] = out.text_embeds if projected else out.pooler_output
        return found


@dataclass(frozen=True)
class Conditions:
    """What the denoiser is told of some rows beside their latents.

    Attributes:
        texts: by text encoder.
        frames: SDXL's micro-conditioning, (R, 6).
        guidance: what a distilled base is told.
    """

    texts: Mapping[str, Fields]
    frames: torch.Tensor
    guidance: float


Predict = Callable[[Any, torch.Tensor, torch.Tensor, Conditions], torch.Tensor]
"""The denoiser's answer, (R, C, h, w): for the model, noisy latents (R, C, h, w) in its dtype,
timesteps (R,) in 0 to 1000, and conditions on its device."""


@dataclass(frozen=True)
class Family:
    """One architecture: its parts in diffusers, its text encoders, its forward pass.

    Attributes:
        name: "sd", "sdxl", "sd3" or "flux".
        title: how people call it.
        pipeline: class of its pipeline in diffusers.
        component: of the denoiser, the beginning of its modules' paths in a weights file.
        denoiser: class of the denoiser in diffusers.
        readers: its text encoders.
        process: how noise is added: see ``trainers.image.noise`` and ``trainers.image.flow``.
        patch: side in latent pixels of what the denoiser reads as one; sides are multiples of it.
        attention: ends of the names of its attention layers, as diffusers' own scripts adapt them.
        feed_forward: ends of what "attention+ff" adapts beside them.
        blocks: classes within which the preset "kohya" adapts every linear layer and 1x1
            convolution.
        predict: its forward pass.
        optional: text encoders that a base may do without.
    """

    name: str
    title: str
    pipeline: str
    component: str
    denoiser: str
    readers: tuple[Reader, ...]
    process: Literal["diffusion", "flow"]
    patch: int
    attention: tuple[str, ...]
    feed_forward: tuple[str, ...]
    blocks: tuple[str, ...]
    predict: Predict
    optional: tuple[str, ...] = ()
