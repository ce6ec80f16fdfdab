"""What the libraries that a file is for make of it: each is asked to load it, and read back.

The base model is not needed. Its modules are stood in for by empty ones of the shapes that the
adapter names, whose memory is never touched, and the library puts its LoRA layers on them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lorareg.errors import IntegrityError, listed
from lorareg.weights import algebra
from lorareg.weights.adapter import LoraAdapter, LoraLayer

TOLERANCE = 1e-5
"""Relative difference of a layer's delta that float32's rounding may make."""
LOADERS = {
    "sd1": "StableDiffusionLoraLoaderMixin",
    "sd2": "StableDiffusionLoraLoaderMixin",
    "sdxl": "StableDiffusionXLLoraLoaderMixin",
    "sd3": "SD3LoraLoaderMixin",
    "flux1": "FluxLoraLoaderMixin",
}


def compare(found: LoraAdapter, wanted: LoraAdapter, reader: str) -> float:
    """The worst relative difference of a layer's delta.

    Raises:
        IntegrityError: a layer is missing, is extra, or differs: the file is not to be kept.
    """
    problems = [f"{n}: is not loaded" for n in sorted(wanted.layers.keys() - found.layers.keys())]
    extra = sorted(found.layers.keys() - wanted.layers.keys())
    problems += [f"{n}: is extra" for n in extra if found.layers[n].up.any()]
    shared = sorted(wanted.layers.keys() & found.layers.keys())
    gaps = {name: _gap(found.layers[name], wanted.layers[name]) for name in shared}
    problems += [f"{n}: differs by {gap:.1e}" for n, gap in gaps.items() if not gap <= TOLERANCE]
    if problems:
        raise IntegrityError(
            f"{reader} reads the written file as another adapter, so it was not kept",
            why="\n" + listed(problems),
            fix="export it in another form, and report this: lorareg could not say it in this one",
        )
    return max(gaps.values(), default=0.0)


@contextmanager
def _quiet() -> Iterator[None]:
    """What a loader has to say of keys it does not use is compared here, layer by layer."""
    import diffusers
    import transformers

    loggers = (diffusers.utils.logging, transformers.utils.logging)
    before = [each.get_verbosity() for each in loggers]
    for each in loggers:
        each.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in zip(loggers, before, strict=True):
            each.set_verbosity(level)


def by_diffusers(file: Path, family: str, wanted: LoraAdapter) -> LoraAdapter:
    """Load a file with diffusers' own loader of a family's pipeline."""
    with _quiet():
        return _by_diffusers(file, family, wanted)


def _by_diffusers(file: Path, family: str, wanted: LoraAdapter) -> LoraAdapter:
    from diffusers import loaders

    loader = getattr(loaders, LOADERS[family])
    told = {"return_alphas": True} if family == "flux1" else {}
    state, alphas, metadata = loader.lora_state_dict(
        str(file.parent), weight_name=file.name, local_files_only=True, use_safetensors=True,
        return_lora_metadata=True, **told,
    )  # fmt: skip
    found: dict[str, LoraLayer] = {}
    for component, layers in _by_component(wanted).items():
        model = _standing_in(component, layers)
        given: dict[str, Any] = {"network_alphas": alphas, "metadata": metadata}
        if component in ("unet", "transformer"):
            model.load_lora_adapter(dict(state), prefix=component, **given)
        else:
            loader.load_lora_into_text_encoder(
                dict(state), text_encoder=model, prefix=component, **given
            )
        found |= {f"{component}.{name}": layer for name, layer in _loaded(model)}
    return LoraAdapter(found)


def by_peft(folder: Path, wanted: LoraAdapter) -> LoraAdapter:
    """Load a folder with ``PeftModel.from_pretrained``."""
    from peft import PeftModel

    with _quiet():
        model = PeftModel.from_pretrained(_standing_in("", wanted.layers), str(folder))
    prefix = "base_model.model."
    return LoraAdapter({name.removeprefix(prefix): layer for name, layer in _loaded(model)})


def _gap(found: LoraLayer, wanted: LoraLayer) -> float:
    if found.down.shape[1:] != wanted.down.shape[1:] or found.up.shape[0] != wanted.up.shape[0]:
        return float("inf")
    own, theirs = (algebra.inner(layer, layer) for layer in (wanted, found))
    squared = own + theirs - 2 * algebra.inner(found, wanted)
    gap = float(np.sqrt(max(squared, 0.0)))
    one, other = found.magnitude, wanted.magnitude
    if (one is None) != (other is None):
        return float("inf")
    if one is not None and other is not None:
        gap = max(gap, float(np.linalg.norm(one - other) / (np.linalg.norm(other) or 1.0)))
    return gap / float(np.sqrt(own)) if own > 0 else gap


def _by_component(adapter: LoraAdapter) -> dict[str, dict[str, LoraLayer]]:
    found: dict[str, dict[str, LoraLayer]] = {}
    for path, layer in adapter.layers.items():
        component, _, name = path.partition(".")
        found.setdefault(component, {})[name] = layer
    return found


def _standing_in(component: str, layers: Mapping[str, LoraLayer]) -> Any:
    """A model with empty modules where the adapter has layers; the memory is never written."""
    import torch
    from diffusers.loaders import PeftAdapterMixin
    from diffusers.models.modeling_utils import ModelMixin
    from transformers import PretrainedConfig, PreTrainedModel

    class Denoiser(ModelMixin, PeftAdapterMixin):  # type: ignore[misc]
        """What diffusers loads into."""

    class Encoder(PreTrainedModel):  # type: ignore[misc]
        """What transformers loads into: its own class would remember answers for all its heirs."""

    is_denoiser = component in ("unet", "transformer")
    model: Any = Denoiser() if is_denoiser else Encoder(PretrainedConfig())
    model.prepare_inputs_for_generation = None  # PEFT keeps it; nothing is generated
    for path, layer in layers.items():
        *above, last = path.split(".")
        place: Any = model
        for name in above:
            if name not in place._modules:
                place.add_module(name, torch.nn.Module())
            place = place._modules[name]
        place.add_module(last, _empty(torch, layer))
    return model


def _empty(torch: Any, layer: LoraLayer) -> Any:
    out, (inputs, *kernel) = layer.up.shape[0], layer.down.shape[1:]
    with torch.device("meta"):
        if kernel:
            module = torch.nn.Conv2d(inputs, out, tuple(kernel), bias=False)
        else:
            module = torch.nn.Linear(inputs, out, bias=False)
    # numpy's zeros take no memory before they are written, and they never are
    zeros = torch.from_numpy(np.zeros((out, inputs, *kernel), np.float32))
    module.weight = torch.nn.Parameter(zeros, requires_grad=False)
    return module


def _loaded(model: Any) -> Iterator[tuple[str, LoraLayer]]:
    from peft.tuners.lora import LoraLayer as PeftLayer

    for path, module in model.named_modules():
        if not isinstance(module, PeftLayer):
            continue
        (name,) = module.lora_A.keys()
        down, up = (x[name].weight.detach().float().numpy() for x in (module.lora_A, module.lora_B))
        lengths = module.lora_magnitude_vector
        magnitude = (
            lengths[name].weight.detach().float().numpy().reshape(-1) if name in lengths else None
        )
        alpha = float(module.scaling[name]) * down.shape[0]
        yield path, LoraLayer(down, up, alpha, magnitude)
