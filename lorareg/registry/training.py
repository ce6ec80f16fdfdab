"""The ``train`` block of a manifest: how to train, with bounds, units and defaults."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lorareg.registry.fields import Share
from lorareg.registry.schema import Strict


class Validation(Strict):
    """The held-out share, and when to give up.

    Attributes:
        share: part of the records held out, at least one record if above 0; 0 switches it off.
        every_steps: steps between two validations; None is once an epoch.
        patience: validations without an improvement before the run stops; None never stops.
        min_delta: a loss counts as better only when it is lower by this much.
    """

    share: Share = 0.1
    every_steps: Annotated[int, Field(ge=1)] | None = None
    patience: Annotated[int, Field(ge=1, le=1000)] | None = None
    min_delta: Annotated[float, Field(ge=0)] = 0.0


class Training(Strict):
    """How to train; what both tasks share.

    Attributes:
        batch_size: records a forward pass.
        gradient_accumulation_steps: forward passes an optimizer step.
        learning_rate: peak, after warm-up.
        warmup_steps: optimizer steps of linear warm-up.
        max_grad_norm: gradients are scaled down to this norm; 0 switches it off.
        precision: of the frozen base; adapters are always float32. "auto" measures the machine.
        save_steps: optimizer steps between two checkpoints to resume from.
    """

    batch_size: Annotated[int, Field(ge=1, le=4096)] = 4
    gradient_accumulation_steps: Annotated[int, Field(ge=1, le=4096)] = 1
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 10
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 1e-4
    optimizer: Literal["adamw"] = "adamw"
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    scheduler: Literal["constant", "linear", "cosine"] = "cosine"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 42
    save_steps: Annotated[int, Field(ge=1)] = 100
    validation: Validation = Validation()


class ImageTraining(Training):
    """Training on pictures.

    Attributes:
        resolution: side of the square training pictures in pixels, a multiple of 8.
        caption_dropout: share of steps that see a picture without its caption, which keeps
            classifier-free guidance working (arXiv 2207.12598).
        min_snr_gamma: gamma of min-SNR loss weighting (arXiv 2303.09556); None switches it off.
    """

    resolution: Annotated[int, Field(ge=8, le=4096, multiple_of=8)] = 512
    caption_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    min_snr_gamma: Annotated[float, Field(gt=0)] | None = None


class TextTraining(Training):
    """Training on dialogues.

    Attributes:
        max_length: tokens of a row; longer rows are cut at the end.
    """

    max_length: Annotated[int, Field(ge=8, le=1_000_000)] = 1024
