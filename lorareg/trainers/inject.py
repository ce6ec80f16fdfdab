"""Putting LoRA layers on a frozen model through PEFT, and reading them back.

Adapters are float32 whatever the base is: in bfloat16 an update of a thousandth is lost.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer as PeftLayer

from lorareg.errors import TrainingError
from lorareg.registry.manifest import Lora
from lorareg.trainers.randomness import Draws
from lorareg.weights.adapter import LoraAdapter, LoraLayer

NAME = "default"  # PEFT's name for the one adapter we inject


@dataclass
class Adapters:
    """The LoRA layers of one model, by module path.

    Attributes:
        component: prefix in the weights file.
        layers: PEFT's own layers, in the order of the model.
        alpha: of every layer.
    """

    component: str
    layers: dict[str, PeftLayer]
    alpha: float

    def named_parameters(self) -> dict[str, torch.nn.Parameter]:
        """Trainable parameters: ``<module>.down`` and ``<module>.up``."""
        found: dict[str, torch.nn.Parameter] = {}
        for name, layer in self.layers.items():
            found[f"{name}.down"], found[f"{name}.up"] = _weights(layer)
        return found

    def snapshot(self) -> LoraAdapter:
        """A copy of the weights as they are now."""
        layers = {}
        for name, layer in self.layers.items():
            down, up = (w.detach().cpu().numpy().copy() for w in _weights(layer))
            layers[name] = LoraLayer(down, up, self.alpha)
        return LoraAdapter(self.component, layers)

    def restore(self, adapter: LoraAdapter) -> None:
        """Put weights back that ``snapshot`` took."""
        with torch.no_grad():
            for name, layer in self.layers.items():
                down, up = _weights(layer)
                down.copy_(torch.from_numpy(np.array(adapter.layers[name].down)))
                up.copy_(torch.from_numpy(np.array(adapter.layers[name].up)))

    def train(self, mode: bool) -> None:
        """Switch dropout on or off; the frozen model stays in evaluation mode."""
        for layer in self.layers.values():
            layer.lora_dropout.train(mode)

    @contextmanager
    def uncast_inputs(self, enabled: bool) -> Iterator[None]:
        """Within the block PEFT leaves inputs as they are.

        It makes them float32 as the adapters are; under autocast they would then be cast back, to
        the same values, and be held twice in memory.
        """
        for layer in self.layers.values():
            layer.cast_input_dtype_enabled = not enabled
        try:
            yield
        finally:
            for layer in self.layers.values():
                layer.cast_input_dtype_enabled = True

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Within the block the model is the base alone."""
        for layer in self.layers.values():
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in self.layers.values():
                layer.enable_adapters(True)


def module_names(model: torch.nn.Module, endings: Sequence[str] | None) -> list[str]:
    """Names of the adaptable modules whose path ends so; None takes every linear layer.

    Raises:
        TrainingError: nothing matches; lists what there is.
    """
    adaptable = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
    }
    if endings is None:
        return [name for name, module in adaptable.items() if isinstance(module, torch.nn.Linear)]
    found = [n for n in adaptable if any(n == e or n.endswith(f".{e}") for e in endings)]
    if not found:
        tails = sorted({name.rpartition(".")[2] for name in adaptable})
        raise TrainingError(
            f"lora.targets {', '.join(endings)} match no module of the base",
            why=f"its modules end in: {', '.join(tails)}",
            fix="use attention, attention+ff, all-linear, or such endings",
        )
    return found


def inject(
    model: torch.nn.Module, component: str, names: Sequence[str], lora: Lora, draws: Draws
) -> Adapters:
    """Add fresh LoRA layers: ``down`` uniform as in kaiming with a = sqrt 5, ``up`` zero.

    Args:
        model: frozen; changed in place.
        component: see ``Adapters``.
        names: full module paths.
        lora: rank, alpha, dropout.
        draws: place of the initial values; each layer draws by its own name.
    """
    layers = _inject(model, dict.fromkeys(names, lora.rank), lora.alpha, lora.dropout)
    for name, layer in layers.items():
        down, up = _weights(layer)
        bound = 1 / math.sqrt(down[0].numel())
        values = draws.generator("init", name).uniform(-bound, bound, tuple(down.shape))
        with torch.no_grad():
            down.copy_(torch.from_numpy(values.astype(np.float32)))
            up.zero_()
    return Adapters(component, layers, float(lora.alpha))


def apply(model: torch.nn.Module, adapter: LoraAdapter) -> Adapters:
    """Put existing weights on a model, to generate with; ``alpha`` must be uniform.

    Raises:
        TrainingError: the model lacks a module that the adapter changes, or has it in another
            size; the model is left as it was.
    """
    alphas = {layer.alpha for layer in adapter.layers.values()}
    modules = dict(model.named_modules())
    absent = [name for name in adapter.layers if name not in modules]
    if absent or len(alphas) != 1:
        raise _misfit(f"module {absent[0]} is not there" if absent else "alphas differ")
    alpha = alphas.pop()
    ranks = {name: layer.rank for name, layer in adapter.layers.items()}
    layers = _inject(model, ranks, alpha, 0.0)
    adapters = Adapters(adapter.component, layers, alpha)
    for name, layer in adapter.layers.items():
        found = tuple(tuple(w.shape) for w in _weights(layers[name]))
        if found != (layer.down.shape, layer.up.shape):
            remove(model, adapters)
            raise _misfit(f"module {name} takes {found}, not {(layer.down.shape, layer.up.shape)}")
    adapters.restore(adapter)
    adapters.train(False)
    return adapters


def remove(model: torch.nn.Module, adapters: Adapters) -> None:
    """Take LoRA layers off again; the model is the base it was."""
    for name, layer in adapters.layers.items():
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, layer.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config


def _inject(
    model: torch.nn.Module, ranks: Mapping[str, int], alpha: float, dropout: float
) -> dict[str, PeftLayer]:
    rank = max(ranks.values())
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=list(ranks),
        rank_pattern={re.escape(name): other for name, other in ranks.items() if other != rank},
        bias="none",
    )
    inject_adapter_in_model(config, model, NAME)
    found: dict[str, Any] = {
        name: module for name, module in model.named_modules() if isinstance(module, PeftLayer)
    }
    layers = {name: found[name] for name in ranks}
    for layer in layers.values():
        layer.lora_A.float()
        layer.lora_B.float()
    return layers


def _weights(layer: PeftLayer) -> tuple[torch.nn.Parameter, torch.nn.Parameter]:
    return layer.lora_A[NAME].weight, layer.lora_B[NAME].weight


def _misfit(why: str) -> TrainingError:
    return TrainingError(
        "the adapter does not fit the base",
        why=why,
        fix="use the base it was trained on: lorareg show REF names it",
    )
