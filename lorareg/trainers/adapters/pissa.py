"""PiSSA (arXiv 2404.02948): begin with the base's own principal components, not with zero.

With B0 A0 the best approximation of the base's W by a matrix of the adapter's rank, PiSSA freezes
the residual W - s B0 A0 and trains B A from B0 A0 on. Here W stays as it is, and a second, frozen
adapter beside the trained one takes s B0 A0 off its output: the same function without a second
base. So the base alone is still at hand, nothing is lost where it is bfloat16, and the plain LoRA
s (B A - B0 A0) of twice the rank, which is what is published, was computed with all along.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer as PeftLayer
from peft.utils.integrations import dequantize_module_weight

from lorareg.errors import TrainingError, listed
from lorareg.trainers.adapters.peft_layers import NAME, fill, weights

START = "start"  # PEFT's name for the adapter that takes the beginning off


def begin(layers: Mapping[str, PeftLayer]) -> None:
    """Set the factors of fresh layers to principal components, and take these off again.

    Costs a singular value decomposition of every adapted weight, in float64 on the CPU.

    Args:
        layers: by module path.

    Raises:
        TrainingError: a rank is above the number of components a module has.
    """
    problems = []
    for name, layer in layers.items():
        down, up = weights(layer)
        components = min(up.shape[0], down[0].numel())
        if down.shape[0] > components:
            problems.append(f"{name} has {components} components, its rank is {down.shape[0]}")
    if problems:
        raise TrainingError(
            "lora.init: pissa cannot take as many components as lora.rank asks for",
            why="\n" + listed(problems),
            fix="lower lora.rank, or give these modules a lower rank in lora.rank_pattern",
        )
    for layer in layers.values():
        _begin(layer)


def freeze(layer: PeftLayer) -> None:
    """Keep the beginning as it is: PEFT makes every active adapter trainable."""
    layer.lora_A[START].requires_grad_(False)
    layer.lora_B[START].requires_grad_(False)


def principal(weight: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The factors (rank, in) and (out, rank) of the best approximation of a matrix by that rank.

    Both carry the roots of the singular values. The largest entry of every row of the first is
    positive, which makes the signs a function of the matrix; one thread makes the rounding one.
    """
    with _one_thread():
        left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
    left, values, right = left[:, :rank], values[:rank].sqrt(), right[:rank]
    largest = right.gather(1, right.abs().argmax(dim=1, keepdim=True))
    signs = torch.where(largest < 0, -1.0, 1.0)
    return values[:, None] * signs * right, left * (signs.T * values)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Within the block torch computes the same on a machine, however many threads it has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _begin(layer: PeftLayer) -> None:
    scale, rank = layer.scaling[NAME], layer.r[NAME]
    weight = dequantize_module_weight(layer.get_base_layer()).detach().cpu().flatten(1)
    down, up = (factor / scale**0.5 for factor in principal(weight, rank))
    layer.update_layer(START, rank, lora_alpha=rank, config=LoraConfig(lora_dropout=0.0))
    layer.scaling[START] = -scale
    layer.lora_A[START].float()
    layer.lora_B[START].float()
    for adapter in (NAME, START):
        first, second = weights(layer, adapter)
        fill(first, down.float().view_as(first).numpy())
        fill(second, up.float().view_as(second).numpy())
    layer.set_adapter([NAME, START])
    freeze(layer)
