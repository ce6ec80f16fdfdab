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
        fix: what to do about it.
        is_hard: whether what does not hold is a reason to refuse, or one to warn.
    """

    ok: bool
    what: str
    detail: str = ""
    fix: str = ""
    is_hard: bool = True
