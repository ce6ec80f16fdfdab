"""One thing that was checked, for lists of findings."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        ok: whether it holds.
        what: the thing: "weights/pytorch_lora_weights.safetensors".
        detail: why not, or what was found.
    """

    ok: bool
    what: str
    detail: str = ""
