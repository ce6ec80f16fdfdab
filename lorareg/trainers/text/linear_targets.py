"""Which linear layers of a language model get adapters: a preset, or names from the manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from lorareg.errors import TrainingError

ATTENTION = ("attn", "attention")  # self_attn.q_proj, attn.c_attn, self_attention.query_key_value
FEED_FORWARD = ("mlp", "ffn", "feed_forward", "ff", "moe", "experts")
LOOSE_FEED_FORWARD = ("fc1", "fc2")  # OPT keeps them in the layer itself
PRESETS = ("attention", "attention+ff", "all-linear")


def linear_modules(model: Any) -> list[str]:
    """Full names of everything an adapter fits on, LM head included, in the model's order."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, (torch.nn.Linear, Conv1D))
    ]


def choose(names: Sequence[str], head: str | None, preset: str | Sequence[str]) -> list[str]:
    """Pick the modules to adapt.

    Args:
        names: from ``linear_modules``.
        head: name of the LM head, which only a list of suffixes can choose.
        preset: "attention" (projections of queries, keys, values and output, fused or not),
            "attention+ff", "all-linear", or a list of suffixes: ``[q_proj, mlp.down_proj]``.

    Raises:
        TrainingError: nothing matches, or one of the suffixes matches nothing.
    """
    if isinstance(preset, str) and preset in PRESETS:
        chosen = [name for name in names if name != head and _belongs(name, preset)]
        missing = [] if chosen else [preset]
    else:
        suffixes = [preset] if isinstance(preset, str) else list(preset)
        chosen = [name for name in names if any(_ends(name, suffix) for suffix in suffixes)]
        missing = [s for s in suffixes if not any(_ends(name, s) for name in names)]
    if missing or not chosen:
        raise TrainingError(
            f"lora.targets: no linear layer of the base matches {', '.join(missing) or 'nothing'}",
            why=f"there are {_inventory(names)}",
            fix=f"set lora.targets to {', '.join(PRESETS)}, or a list of these names",
        )
    return chosen


def _belongs(name: str, preset: str) -> bool:
    parts = name.lower().split(".")
    if preset == "all-linear" or _any_in(parts[:-1], ATTENTION):
        return True
    feeds = _any_in(parts[:-1], FEED_FORWARD) or parts[-1] in LOOSE_FEED_FORWARD
    return feeds and preset == "attention+ff"


def _any_in(parts: Sequence[str], words: Sequence[str]) -> bool:
    return any(word in part for part in parts for word in words)


def _ends(name: str, suffix: str) -> bool:
    return name == suffix or name.endswith(f".{suffix}")


def _inventory(names: Sequence[str]) -> str:
    counts = Counter(name.rpartition(".")[2] for name in names)
    return ", ".join(f"{name} ({count})" for name, count in counts.items()) or "none"
