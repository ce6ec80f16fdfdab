"""A composition on models in memory, as long as a block lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from lorareg.errors import LoraregError
from lorareg.registry.recipe import Method
from lorareg.trainers.adapters import inject
from lorareg.trainers.adapters.inject import Adapters
from lorareg.trainers.schedule import Scheduled
from lorareg.weights import compose
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.members import Composition

DENOISERS = ("unet", "transformer")
Models = Mapping[str, torch.nn.Module]
Timesteps = Callable[[], torch.Tensor]


def models_of(target: Any) -> Models:
    """The models of a diffusers pipeline by component; a transformers model has no components."""
    if isinstance(target, torch.nn.Module):
        return {"": target}
    parts: Mapping[str, Any] = target.components
    return {name: part for name, part in parts.items() if isinstance(part, torch.nn.Module)}


@contextmanager
def worn(models: Models, composition: Composition, timesteps: Timesteps) -> Iterator[None]:
    """Within the block the models are base + composition; afterwards they are the base again.

    Args:
        models: by component; what no member changes stays as it is.
        composition: the members, their method and schedule.
        timesteps: asks for those of the picture that is being drawn, first to last.

    Raises:
        LoraregError: it does not fit, another adapter is on already, or it has a schedule that
            the models cannot follow.
    """
    _refuse_schedules(models, composition)
    adapter = compose.build(composition)
    changed = _changed(models, adapter)
    taken = [name or "model" for name, model in changed.items() if hasattr(model, "peft_config")]
    if taken:
        raise LoraregError(
            f"another adapter is on the {' and '.join(taken)}",
            fix="swap it, or take it off first: loaded.remove(), or pipe.unload_lora_weights()",
        )
    adapters = inject.apply(changed, adapter)
    try:
        name = next((name for name in DENOISERS if name in changed), None)
        if name is None or not composition.is_scheduled:
            yield
            return
        own = replace(adapters, layers=_layers_of(adapters, name))
        with Scheduled(changed[name], timesteps, own, composition):
            yield
    finally:
        inject.remove(adapters)


def _changed(models: Models, adapter: LoraAdapter) -> Models:
    if "" in models:
        return models
    parts = sorted({name.partition(".")[0] for name in adapter.layers})
    return {part: models[part] for part in parts if part in models}


def _layers_of(adapters: Adapters, component: str) -> dict[str, Any]:
    """The layers of the denoiser: texts are read once, before the first step, by every member."""
    return {
        name: layer for name, layer in adapters.layers.items() if name.startswith(f"{component}.")
    }


def _refuse_schedules(models: Models, composition: Composition) -> None:
    if not composition.is_scheduled:
        return
    if not any(name in models for name in DENOISERS):
        raise LoraregError(
            "a language model has no denoising steps",
            why="the composition has windows or a schedule",
            fix="leave steps=... and the schedule out",
        )
    if composition.method != Method():
        raise LoraregError(
            f"method {composition.method.name} makes one adapter of all parts, which cannot be "
            "on and off by steps",
            fix="set method: sum in the recipe, or leave steps=... and the schedule out",
        )
