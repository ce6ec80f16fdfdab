"""Putting LoRA layers on a frozen model through PEFT, and reading them back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import torch
from peft.tuners.lora import LoraLayer as PeftLayer

from lorareg.errors import TrainingError
from lorareg.registry.manifest import Lora
from lorareg.trainers.adapters import peft_layers, pissa
from lorareg.trainers.adapters.peft_layers import array, fill, magnitude_of, weights
from lorareg.trainers.core.randomness import Draws
from lorareg.weights.adapter import LoraAdapter, LoraLayer


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
        """Trainable parameters: ``<module>.down``, ``.up`` and, of a DoRA, ``.magnitude``."""
        found: dict[str, torch.nn.Parameter] = {}
        for name, layer in self.layers.items():
            found[f"{name}.down"], found[f"{name}.up"] = weights(layer)
            if (magnitude := magnitude_of(layer)) is not None:
                found[f"{name}.magnitude"] = magnitude
        return found

    def snapshot(self) -> LoraAdapter:
        """A copy of the weights as they are now; of PiSSA the difference to its beginning."""
        layers = {}
        for name, layer in self.layers.items():
            down, up = (array(w) for w in weights(layer))
            alpha, magnitude = self.alphas[name], magnitude_of(layer)
            if pissa.START in layer.lora_A:
                first, second = (array(w) for w in weights(layer, pissa.START))
                down, up = np.concatenate([down, first]), np.concatenate([up, -second], axis=1)
                alpha *= 2  # so does the rank: the scale stays
            flat = None if magnitude is None else array(magnitude).reshape(-1)
            layers[name] = LoraLayer(down, up, alpha, flat)
        return LoraAdapter(layers)

    def restore(self, adapter: LoraAdapter) -> None:
        """Put weights back that ``snapshot`` took."""
        for name, layer in self.layers.items():
            found, (down, up) = adapter.layers[name], weights(layer)
            rank = len(down)
            fill(down, found.down[:rank])
            fill(up, found.up[:, :rank])
            if pissa.START in layer.lora_A:
                first, second = weights(layer, pissa.START)
                fill(first, found.down[rank:])
                fill(second, -found.up[:, rank:])
            if (magnitude := magnitude_of(layer)) is not None and found.magnitude is not None:
                fill(magnitude, found.magnitude.reshape(magnitude.shape))

    def train(self, mode: bool) -> None:
        """Switch dropout on or off; the frozen model stays in evaluation mode."""
        for layer in self.layers.values():
            layer.lora_dropout.train(mode)
            if layer.lora_variant:  # PEFT's DoRA asks the layer itself whether to drop anything
                layer.training = mode

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
    def computing(self, device: str, dtype: str) -> Iterator[None]:
        """Within the block the frozen models compute in a precision: "float32", "bfloat16"."""
        kind, low = getattr(torch, dtype), dtype != "float32"
        cast = torch.autocast(torch.device(device).type, dtype=kind, enabled=low)
        with cast, self.uncast_inputs(low):
            yield

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
                if pissa.START in layer.lora_A:
                    pissa.freeze(layer)


def ranks_of(names: Sequence[str], lora: Lora) -> dict[str, int]:
    """The rank of every module: that of the first ``lora.rank_pattern`` that fits its path.

    >>> ranks_of(["unet.down.attn1", "unet.mid.attn1"], Lora(rank=8, rank_pattern={"*.mid.*": 4}))
    {'unet.down.attn1': 8, 'unet.mid.attn1': 4}

    Raises:
        TrainingError: a pattern fits no module, so it does nothing.
    """
    idle = [p for p in lora.rank_pattern if not any(fnmatchcase(name, p) for name in names)]
    if idle:
        raise TrainingError(
            f"lora.rank_pattern {', '.join(idle)} fits none of the {len(names)} adapted modules",
            why=f"it is compared with the full path of a module, such as {names[0]}",
            fix=f"correct it: write *{idle[0].strip('*')}* if it is a part of the path",
        )
    return {
        name: next((r for p, r in lora.rank_pattern.items() if fnmatchcase(name, p)), lora.rank)
        for name in names
    }


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
    """Add fresh LoRA layers, which change nothing yet.

    ``down`` is uniform as in kaiming with a = sqrt 5 and ``up`` zero, or both begin with the base's
    principal components (``pissa.begin``). A magnitude begins at the length of the base's row.

    Args:
        models: frozen, by component; changed in place.
        ranks: full module path -> rank.
        lora: alpha, dropout, variant.
        draws: place of the initial values; each layer draws by its own name.

    Raises:
        TrainingError: ranks that PiSSA cannot begin with.
    """
    alphas = {name: _alpha(lora, rank) for name, rank in ranks.items()}
    doras = set(models) if lora.use_dora else set[str]()
    adapters = Adapters(
        models, peft_layers.make(models, ranks, alphas, lora.dropout, doras), alphas
    )
    if lora.init == "pissa":
        pissa.begin(adapters.layers)
        return adapters
    for name, layer in adapters.layers.items():
        down, up = weights(layer)
        bound = 1 / math.sqrt(down[0].numel())
        values = draws.generator("init", _own_name(models, name)).uniform(
            -bound, bound, tuple(down.shape)
        )
        fill(down, values.astype(np.float32))
        torch.nn.init.zeros_(up)
        if magnitude_of(layer) is not None:
            peft_layers.measure(layer)
    return adapters


def apply(models: Mapping[str, torch.nn.Module], adapter: LoraAdapter) -> Adapters:
    """Put existing weights on models, to generate with.

    Raises:
        TrainingError: a model lacks a module that the adapter changes, or has it in another
            size; the models are left as they were.
    """
    modules = peft_layers.modules(models)
    absent = [name for name in adapter.layers if name not in modules]
    if absent:
        raise _misfit(f"module {absent[0]} is not there")
    alphas = {name: layer.alpha for name, layer in adapter.layers.items()}
    ranks = {name: layer.rank for name, layer in adapter.layers.items()}
    doras = {
        peft_layers.split(models, n)[0]
        for n, x in adapter.layers.items()
        if x.magnitude is not None
    }
    adapters = Adapters(models, peft_layers.make(models, ranks, alphas, 0.0, doras), alphas)
    for name, layer in adapter.layers.items():
        found = tuple(tuple(w.shape) for w in weights(adapters.layers[name]))
        if found != (layer.down.shape, layer.up.shape):
            remove(adapters)
            raise _misfit(f"module {name} takes {found}, not {(layer.down.shape, layer.up.shape)}")
    adapters.restore(adapter)
    adapters.train(False)
    return adapters


def remove(adapters: Adapters) -> None:
    """Take LoRA layers off again; the models are the bases they were."""
    for name, layer in adapters.layers.items():
        component, own = peft_layers.split(adapters.models, name)
        parent, _, leaf = own.rpartition(".")
        setattr(adapters.models[component].get_submodule(parent), leaf, layer.get_base_layer())
    for model in adapters.models.values():
        if hasattr(model, "peft_config"):
            del model.peft_config


def _own_name(models: Mapping[str, torch.nn.Module], path: str) -> str:
    """What a layer is called in its own draws: in a UNet its path there, as ever."""
    component, own = peft_layers.split(models, path)
    return own if component == "unet" else path


def _alpha(lora: Lora, rank: int) -> float:
    """The alpha of a plain LoRA of that rank with the same scale."""
    if lora.use_rslora:
        return lora.alpha * math.sqrt(rank)
    return float(lora.alpha) * rank / lora.rank


def _misfit(why: str) -> TrainingError:
    return TrainingError(
        "the adapter does not fit the base",
        why=why,
        fix="use the base it was trained on: lorareg show REF names it",
    )
