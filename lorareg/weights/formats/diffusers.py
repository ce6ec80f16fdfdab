"""``pytorch_lora_weights.safetensors``, the file ``pipe.load_lora_weights`` reads.

Keys are ``<component>.<module>.lora.down.weight`` and ``.lora.up.weight``, where the component is
``unet`` or ``transformer``; of a ``text_encoder`` they end in ``.lora_linear_layer.down.weight``
and ``.up.weight``, or diffusers does not know the file. A DoRA has ``.lora_magnitude_vector`` too,
with ``.weight`` behind it in a text encoder: transformers 5 drops it otherwise. Without metadata
the loader takes alpha = rank, so the header carries the few keys of ``lora_adapter_metadata`` that
every peft since 0.15 understands, sorted (the reference writer stores sets in random order).
Source: diffusers.loaders.lora_base, ``_save_lora_weights`` and ``_load_lora_metadata``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorareg.errors import InvalidFileError
from lorareg.registry import jsontext, tensors
from lorareg.registry.tensors import RawTensor
from lorareg.weights.adapter import LoraAdapter, LoraLayer
from lorareg.weights.formats.pairs import (
    DIFFUSERS_ENDINGS,
    ENCODER_ENDINGS,
    MAGNITUDE,
    PEFT_ENDINGS,
    raw_layers,
    read_layers,
    settings_of,
)

FILE = "pytorch_lora_weights.safetensors"
METADATA_KEY = "lora_adapter_metadata"
COMPONENTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")


def write(path: Path, adapter: LoraAdapter, notes: Mapping[str, str]) -> None:
    """Write an adapter; ``notes`` are further header entries such as ``lorareg.fingerprint``."""
    raw: dict[str, RawTensor] = {}
    for component, layers in _by_component(adapter).items():
        if component.startswith("text_encoder"):
            raw |= raw_layers(layers, f"{component}.", ENCODER_ENDINGS, f"{MAGNITUDE}.weight")
        else:
            raw |= raw_layers(layers, f"{component}.", DIFFUSERS_ENDINGS)
    settings = json.dumps(lora_settings(adapter), sort_keys=True)
    tensors.write(path, raw, {"format": "pt", METADATA_KEY: settings, **notes})


def read(path: Path) -> LoraAdapter:
    """Read an adapter that ``write`` or diffusers wrote.

    Raises:
        InvalidFileError: no such file, or one with anything in it that is not understood.
    """
    raw, metadata = tensors.read(path)
    components = sorted({key.partition(".")[0] for key in raw})
    unknown = [name for name in components if name not in COMPONENTS]
    if unknown or not components:
        raise InvalidFileError(
            f"{path.name} adapts {', '.join(unknown[:5]) or 'nothing'}",
            why=f"a pipeline has {', '.join(COMPONENTS)}",
            fix="save the adapter with pipe.save_lora_weights(folder, ...)",
        )
    settings = _settings(path, metadata)
    layers: dict[str, LoraLayer] = {}
    for component in components:
        prefix = f"{component}."
        own = {k.removeprefix(prefix): v for k, v in settings.items() if k.startswith(prefix)}
        mine = {key: tensor for key, tensor in raw.items() if key.startswith(prefix)}
        endings = (DIFFUSERS_ENDINGS, ENCODER_ENDINGS, PEFT_ENDINGS)
        found = read_layers(path.name, mine, prefix, endings, own or None)
        layers |= {f"{prefix}{name}": layer for name, layer in found.items()}
    return LoraAdapter(layers)


def lora_settings(adapter: LoraAdapter) -> dict[str, object]:
    """The minimal metadata of a file, each key with its component."""
    return {
        f"{component}.{key}": value
        for component, layers in _by_component(adapter).items()
        for key, value in settings_of(layers).items()
    }


def _by_component(adapter: LoraAdapter) -> dict[str, dict[str, LoraLayer]]:
    found: dict[str, dict[str, LoraLayer]] = {}
    for path, layer in adapter.layers.items():
        component, _, name = path.partition(".")
        found.setdefault(component, {})[name] = layer
    return found


def _settings(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        settings = jsontext.parse(metadata.get(METADATA_KEY, "{}"))
    except ValueError as error:
        raise InvalidFileError(
            f"{path.name}: {METADATA_KEY} is not JSON", why=str(error), fix="export it again"
        ) from error
    if not isinstance(settings, dict):
        raise InvalidFileError(
            f"{path.name}: {METADATA_KEY} is not a JSON object", fix="export it again"
        )
    return settings
