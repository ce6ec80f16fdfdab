"""The ``sample`` block of a manifest: what to generate while training."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lorareg.registry.fields import Text
from lorareg.registry.schema import Strict


class Sampling(Strict):
    """What to generate while training, always with the same seeds.

    Attributes:
        every_steps: optimizer steps between two sample sheets; 0 only at the end.
        steps: denoising steps; guidance: classifier-free guidance scale (pictures only).
        max_new_tokens: length of a reply (dialogues only).
    """

    prompts: Annotated[tuple[Text, ...], Field(max_length=16)] = ()
    every_steps: Annotated[int, Field(ge=0)] = 0
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    steps: Annotated[int, Field(ge=1, le=1000)] = 25
    guidance: Annotated[float, Field(ge=0, le=50)] = 5.0
    max_new_tokens: Annotated[int, Field(ge=1, le=4096)] = 64
