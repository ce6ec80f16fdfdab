"""Putting LoRA layers on a frozen model through PEFT, and reading them back.

Adapters are float32 whatever the base is: in bfloat16 an update of a thousandth is lost.
"""

from __future__ import annotations

import math
import re
from collections import Counter
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
    """The LoRA layers of some models, by module path.

    Attributes:
        models: by component, the first part of a path; "" where paths have none.
        layers: PEFT's own layers, in the order of the models.
        alphas: of every layer.
    """

    models: Mapping[str, torch.nn.Module]
    layers: dict[str, PeftLayer]
    alphas: Mapping[str, float]

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
            layers[name] = LoraLayer(down, up, self.alphas[name])
        return LoraAdapter(layers)

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
    models: Mapping[str, torch.nn.Module], ranks: Mapping[str, int], lora: Lora, draws: Draws
) -> Adapters:
    """Add fresh LoRA layers: ``down`` uniform as in kaiming with a = sqrt 5, ``up`` zero.

    Args:
        models: frozen, by component; changed in place.
        ranks: full module path -> rank.
        lora: alpha, dropout.
        draws: place of the initial values; each layer draws by its own name.
    """
    alphas = {name: float(lora.alpha) * rank / lora.rank for name, rank in ranks.items()}
    adapters = Adapters(models, _inject(models, ranks, alphas, lora.dropout), alphas)
    for name, layer in adapters.layers.items():
        down, up = _weights(layer)
        bound = 1 / math.sqrt(down[0].numel())
        values = draws.generator("init", _own_name(models, name)).uniform(
            -bound, bound, tuple(down.shape)
        )
        with torch.no_grad():
            down.copy_(torch.from_numpy(values.astype(np.float32)))
            up.zero_()
    return adapters


def apply(models: Mapping[str, torch.nn.Module], adapter: LoraAdapter) -> Adapters:
    """Put existing weights on models, to generate with.

    Raises:
        TrainingError: a model lacks a module that the adapter changes, or has it in another
            size; the models are left as they were.
    """
    modules = _modules(models)
    absent = [name for name in adapter.layers if name not in modules]
    if absent:
        raise _misfit(f"module {absent[0]} is not there")
    alphas = {name: layer.alpha for name, layer in adapter.layers.items()}
    ranks = {name: layer.rank for name, layer in adapter.layers.items()}
    adapters = Adapters(models, _inject(models, ranks, alphas, 0.0), alphas)
    for name, layer in adapter.layers.items():
        found = tuple(tuple(w.shape) for w in _weights(adapters.layers[name]))
        if found != (layer.down.shape, layer.up.shape):
            remove(adapters)
            raise _misfit(f"module {name} takes {found}, not {(layer.down.shape, layer.up.shape)}")
    adapters.restore(adapter)
    adapters.train(False)
    return adapters


def remove(adapters: Adapters) -> None:
    """Take LoRA layers off again; the models are the bases they were."""
    for name, layer in adapters.layers.items():
        component, own = _split(adapters.models, name)
        parent, _, leaf = own.rpartition(".")
        setattr(adapters.models[component].get_submodule(parent), leaf, layer.get_base_layer())
    for model in adapters.models.values():
        if hasattr(model, "peft_config"):
            del model.peft_config


def _inject(
    models: Mapping[str, torch.nn.Module],
    ranks: Mapping[str, int],
    alphas: Mapping[str, float],
    dropout: float,
) -> dict[str, PeftLayer]:
    for component, model in models.items():
        mine = [name for name in ranks if _split(models, name)[0] == component]
        if mine:
            _inject_model(
                model,
                {_split(models, name)[1]: (ranks[name], alphas[name]) for name in mine},
                dropout,
            )
    modules = _modules(models)
    layers = {name: modules[name] for name in ranks}
    for layer in layers.values():
        layer.lora_A.float()
        layer.lora_B.float()
    return layers


def _inject_model(
    model: torch.nn.Module, shapes: Mapping[str, tuple[int, float]], dropout: float
) -> None:
    (rank, alpha), _ = Counter(shapes.values()).most_common(1)[0]
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=list(shapes),
        rank_pattern={re.escape(n): r for n, (r, _) in shapes.items() if r != rank},
        alpha_pattern={re.escape(n): a for n, (_, a) in shapes.items() if a != alpha},
        bias="none",
    )
    inject_adapter_in_model(config, model, NAME)


def _modules(models: Mapping[str, torch.nn.Module]) -> dict[str, Any]:
    """Every module by its full path."""
    return {
        f"{component}.{name}" if component else name: module
        for component, model in models.items()
        for name, module in model.named_modules()
    }


def _split(models: Mapping[str, torch.nn.Module], path: str) -> tuple[str, str]:
    """Component and path within it."""
    component, _, own = path.partition(".")
    return (component, own) if component in models else ("", path)


def _own_name(models: Mapping[str, torch.nn.Module], path: str) -> str:
    """What a layer is called in its own draws: in a UNet its path there, as ever."""
    component, own = _split(models, path)
    return own if component == "unet" else path


def _weights(layer: PeftLayer) -> tuple[torch.nn.Parameter, torch.nn.Parameter]:
    return layer.lora_A[NAME].weight, layer.lora_B[NAME].weight


def _misfit(why: str) -> TrainingError:
    return TrainingError(
        "the adapter does not fit the base",
        why=why,
        fix="use the base it was trained on: lorareg show REF names it",
    )
