"""``pytorch_lora_weights.safetensors``, the file ``pipe.load_lora_weights`` reads.

Keys are ``unet.<module>.lora.down.weight`` and ``.lora.up.weight``. Without metadata the loader
takes alpha = rank, so the header carries the few keys of ``lora_adapter_metadata`` that every peft
since 0.13 understands, sorted (the reference writer stores sets in random order).
Source: diffusers.loaders.lora_base, ``_save_lora_weights`` and ``_load_lora_metadata``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from lorareg.errors import InvalidFileError
from lorareg.registry import tensors
from lorareg.weights.adapter import LoraAdapter, LoraLayer, from_raw, to_raw

FILE = "pytorch_lora_weights.safetensors"
METADATA_KEY = "lora_adapter_metadata"


def write(path: Path, adapter: LoraAdapter, notes: Mapping[str, str]) -> None:
    """Write an adapter; ``notes`` are further header entries such as ``lorareg.fingerprint``."""
    raw = {}
    for name, layer in adapter.layers.items():
        raw[f"{adapter.component}.{name}.lora.down.weight"] = to_raw(layer.down)
        raw[f"{adapter.component}.{name}.lora.up.weight"] = to_raw(layer.up)
    settings = json.dumps(lora_settings(adapter), sort_keys=True)
    tensors.write(path, raw, {"format": "pt", METADATA_KEY: settings, **notes})


def read(path: Path) -> LoraAdapter:
    """Read an adapter that ``write`` or diffusers wrote.

    Raises:
        InvalidFileError: a key that is not understood; none is ever skipped.
    """
    raw, metadata = tensors.read(path)
    settings = json.loads(metadata.get(METADATA_KEY, "{}"))
    pairs: dict[tuple[str, str], dict[str, str]] = {}
    for key in raw:
        component, _, rest = key.partition(".")
        for ending, side in ((".lora.down.weight", "down"), (".lora.up.weight", "up")):
            if rest.endswith(ending):
                pairs.setdefault((component, rest.removesuffix(ending)), {})[side] = key
                break
        else:
            raise _unknown(path, key)
    layers = {}
    for (component, name), sides in pairs.items():
        if set(sides) != {"down", "up"}:
            raise _unknown(path, next(iter(sides.values())))
        down, up = (from_raw(sides[side], raw[sides[side]]) for side in ("down", "up"))
        layers[name] = LoraLayer(down, up, _alpha(settings, component, name, down.shape[0]))
    components = {component for component, _ in pairs}
    if len(components) != 1:
        raise InvalidFileError(
            f"{path.name} adapts {', '.join(sorted(components)) or 'nothing'}",
            why="lorareg reads adapters of one component",
        )
    return LoraAdapter(components.pop(), layers)


def lora_settings(adapter: LoraAdapter) -> dict[str, object]:
    """The minimal metadata: the commonest rank and alpha, and patterns for modules that differ."""
    layers = adapter.layers
    (rank, alpha), _ = Counter((x.rank, x.alpha) for x in layers.values()).most_common(1)[0]
    settings = {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {n: x.rank for n, x in sorted(layers.items()) if x.rank != rank},
        "alpha_pattern": {n: x.alpha for n, x in sorted(layers.items()) if x.alpha != alpha},
        "target_modules": sorted(layers),
        "use_rslora": False,
        "use_dora": False,
    }
    return {f"{adapter.component}.{key}": value for key, value in settings.items()}


def _alpha(settings: Mapping[str, object], component: str, name: str, rank: int) -> float:
    if settings.get(f"{component}.use_rslora") or settings.get(f"{component}.use_dora"):
        raise InvalidFileError("rsLoRA and DoRA files are not read here")
    pattern = settings.get(f"{component}.alpha_pattern")
    if isinstance(pattern, dict) and name in pattern:
        return float(pattern[name])
    alpha = settings.get(f"{component}.lora_alpha", rank)
    return float(alpha) if isinstance(alpha, int | float) else float(rank)


def _unknown(path: Path, key: str) -> InvalidFileError:
    return InvalidFileError(
        f"{path.name}: key {key!r} is not understood",
        why="a diffusers LoRA file has pairs of <module>.lora.down.weight and .lora.up.weight",
        fix="export it in diffusers format first",
    )
