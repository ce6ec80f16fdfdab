"""What a variant of LoRA costs later, when its adapter is composed, exported or trained on."""

from __future__ import annotations

import math

from lorareg.registry.manifest import Lora


def costs(lora: Lora) -> list[str]:
    """Sentences to say when a run starts; none for a plain LoRA.

    >>> costs(Lora())
    []
    """
    rank, alpha = published(lora)
    said = []
    if lora.rank_pattern:
        said.append(
            "lora.rank_pattern: PEFT and diffusers load modules of different ranks; a composition "
            "pads all of them to the highest"
        )
    if lora.use_rslora:
        said.append(
            f"rsLoRA is published as a plain LoRA of alpha {alpha:g}, the same delta for every "
            "loader; composing it costs nothing"
        )
    if lora.use_dora:
        said.append(
            "DoRA cannot be added up with other adapters or given a weight: lorareg compose "
            "refuses it; alone, PEFT and diffusers load it exactly"
        )
        said.append(
            "DoRA measures every row of each adapted weight in every step, which takes time and "
            "memory"
        )
    if lora.init == "pissa":
        said.append(
            f"PiSSA is published as a plain LoRA of rank {rank}, the difference to where it "
            "started: twice the file, and twice the rank in a composition"
        )
        said.append(
            "PiSSA decomposes every adapted weight before the first step, and starts from the "
            "base's own components, which train.weight_decay pulls to zero: set it to 0"
        )
    return said


def published(lora: Lora) -> tuple[int, float]:
    """Rank and alpha of the weights that are written, where no pattern says otherwise.

    >>> published(Lora(rank=16, alpha=16, use_rslora=True))
    (16, 64.0)
    """
    times = 2 if lora.init == "pissa" else 1
    alpha = lora.alpha * math.sqrt(lora.rank) if lora.use_rslora else lora.alpha
    return times * lora.rank, times * alpha
