"""Putting the kernels into models that are loaded and adapted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from peft.tuners import lora

from lorareg.trainers.adapters.inject import Adapters
from lorareg.trainers.adapters.peft_layers import NAME
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.packed.adapted import AdaptedConv2d, AdaptedLinear
from lorareg.trainers.packed.layers import FrozenConv2d, FrozenLinear
from lorareg.trainers.packed.norms import FrozenGroupNorm

MOSTLY = 0.9  # share of a mapped file that is in use when it may stay mapped


def install(models: Mapping[str, torch.nn.Module], adapters: Adapters, runtime: Runtime) -> None:
    """Make frozen models and the LoRA layers on them compute with the kernels of this package.

    In place: layers, parameters and their names stay, so ``adapters`` works on. Only a plain layer
    in the run's dtype is taken over. Grouped, dilated, quantized and hooked layers compute as ever,
    and so do LoRA variants such as DoRA, over a base that may be taken over.

    Args:
        models: by component, frozen but for their adapters.
        adapters: on these models.
        runtime: nothing happens unless its kernels are "packed" and it computes on the CPU.
    """
    if runtime.kernels != "packed" or runtime.device != "cpu":
        return
    dtype: torch.dtype = getattr(torch, runtime.dtype)
    for model in models.values():
        _let_files_go(model)
        for module in model.modules():
            if type(module) is torch.nn.Linear and _is_plain(module, dtype):
                FrozenLinear.take_over(module)
            elif type(module) is torch.nn.Conv2d and _is_plain_convolution(module, dtype):
                FrozenConv2d.take_over(module)
            elif type(module) is torch.nn.GroupNorm and _is_plain_norm(module, dtype):
                FrozenGroupNorm.take_over(module)
        if dtype is torch.bfloat16 and hasattr(model, "attn_processors"):
            from lorareg.trainers.packed.attention import shorten

            shorten(model)
    for layer in adapters.layers.values():
        _join(layer)


def _let_files_go(model: torch.nn.Module) -> None:
    """Copy what is mapped from a file of which little is used: it holds all of it in memory."""
    tensors = [*model.parameters(), *model.buffers()]
    used: Counter[int] = Counter()
    for tensor in tensors:
        used[tensor.untyped_storage().data_ptr()] += tensor.nbytes
    for tensor in tensors:
        storage = tensor.untyped_storage()
        if used[storage.data_ptr()] < MOSTLY * storage.nbytes():
            tensor.data = tensor.data.clone()


def _is_plain(layer: torch.nn.Linear | torch.nn.Conv2d, dtype: torch.dtype) -> bool:
    weight = layer.weight
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks)
    return (
        type(weight) is torch.nn.Parameter
        and not weight.requires_grad
        and weight.dtype is dtype
        and _is_dense(weight)
        and (layer.bias is None or layer.bias.dtype is dtype)
        and "forward" not in vars(layer)
        and not any(hooks)
    )


def _is_dense(weight: torch.Tensor) -> bool:
    laid_out = weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)
    return weight.is_contiguous() or laid_out


def _is_plain_convolution(layer: torch.nn.Conv2d, dtype: torch.dtype) -> bool:
    return (
        _is_plain(layer, dtype)
        and layer.groups == 1
        and layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


def _is_plain_norm(norm: torch.nn.GroupNorm, dtype: torch.dtype) -> bool:
    return dtype is torch.bfloat16 and norm.affine and not norm.weight.requires_grad


def _join(layer: Any) -> None:
    """Let a LoRA layer and the frozen layer below it compute as one."""
    if layer.lora_variant or layer.lora_bias.get(NAME, True):
        return
    if type(layer) is lora.Linear and type(layer.base_layer) is FrozenLinear:
        layer.__class__ = AdaptedLinear
    elif type(layer) is lora.Conv2d and type(layer.base_layer) is FrozenConv2d:
        layer.__class__ = AdaptedConv2d
