"""``pytorch_lora_weights.safetensors``, the file ``pipe.load_lora_weights`` reads.

Keys are ``unet.<module>.lora.down.weight`` and ``.lora.up.weight``. Without metadata the loader
takes alpha = rank, so the header carries the few keys of ``lora_adapter_metadata`` that every peft
since 0.15 understands, sorted (the reference writer stores sets in random order).
Source: diffusers.loaders.lora_base, ``_save_lora_weights`` and ``_load_lora_metadata``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorareg.errors import InvalidFileError
from lorareg.registry import jsontext, tensors
from lorareg.weights.adapter import LoraAdapter, to_raw
from lorareg.weights.formats.pairs import (
    DIFFUSERS_ENDINGS,
    PEFT_ENDINGS,
    read_layers,
    settings_of,
)

FILE = "pytorch_lora_weights.safetensors"
METADATA_KEY = "lora_adapter_metadata"


def write(path: Path, adapter: LoraAdapter, notes: Mapping[str, str]) -> None:
    """Write an adapter; ``notes`` are further header entries such as ``lorareg.fingerprint``."""
    down, up = DIFFUSERS_ENDINGS
    raw = {}
    for name, layer in adapter.layers.items():
        raw[f"{adapter.component}.{name}{down}"] = to_raw(layer.down)
        raw[f"{adapter.component}.{name}{up}"] = to_raw(layer.up)
    settings = json.dumps(lora_settings(adapter), sort_keys=True)
    tensors.write(path, raw, {"format": "pt", METADATA_KEY: settings, **notes})


def read(path: Path) -> LoraAdapter:
    """Read an adapter that ``write`` or diffusers wrote.

    Raises:
        InvalidFileError: no such file, or one with anything in it that is not understood.
    """
    raw, metadata = tensors.read(path)
    components = {key.partition(".")[0] for key in raw}
    if len(components) != 1:
        raise InvalidFileError(
            f"{path.name} adapts {', '.join(sorted(components)[:5]) or 'nothing'}",
            why="lorareg reads adapters of one component, such as unet",
            fix="save that component's layers alone: "
            "pipe.save_lora_weights(folder, unet_lora_layers=...)",
        )
    component = components.pop()
    prefix = f"{component}."
    settings = {
        key.removeprefix(prefix): value
        for key, value in _settings(path, metadata).items()
        if key.startswith(prefix)
    }
    endings = (DIFFUSERS_ENDINGS, PEFT_ENDINGS)
    return LoraAdapter(component, read_layers(path.name, raw, prefix, endings, settings or None))


def lora_settings(adapter: LoraAdapter) -> dict[str, object]:
    """The minimal metadata of a file, each key with its component."""
    settings = settings_of(adapter.layers)
    return {f"{adapter.component}.{key}": value for key, value in settings.items()}


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
