"""A PEFT folder: ``adapter_model.safetensors`` and ``adapter_config.json``.

Read by ``PeftModel.from_pretrained``, vLLM, LoRAX and TGI. Keys are
``base_model.model.<module>.lora_A.weight`` and ``.lora_B.weight``; scale is alpha / r.
Source: peft.utils.save_and_load, ``get_peft_model_state_dict``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from lorareg.errors import InvalidFileError
from lorareg.registry import tensors
from lorareg.registry.files import write_atomically
from lorareg.registry.lock import load_json
from lorareg.weights.adapter import LoraAdapter, LoraLayer, from_raw, to_raw

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
PREFIX = "base_model.model."


def write(folder: Path, adapter: LoraAdapter, base_model: str, notes: Mapping[str, str]) -> None:
    """Write both files; ``base_model`` is what consumers are told to load, never a local path."""
    raw = {}
    for name, layer in adapter.layers.items():
        raw[f"{PREFIX}{name}.lora_A.weight"] = to_raw(layer.down)
        raw[f"{PREFIX}{name}.lora_B.weight"] = to_raw(layer.up)
    tensors.write(folder / WEIGHTS, raw, {"format": "pt", **notes})
    config = json.dumps(_config(adapter, base_model), indent=2, sort_keys=True)
    write_atomically(folder / CONFIG, config + "\n")


def read(folder: Path) -> LoraAdapter:
    """Read a PEFT LoRA folder.

    Raises:
        InvalidFileError: not plain LoRA, or a key that is not understood.
    """
    config = load_json(folder / CONFIG, CONFIG)
    if config.get("peft_type") != "LORA" or config.get("use_dora") or config.get("use_rslora"):
        raise InvalidFileError(f"{CONFIG} is not a plain LoRA", why="peft_type must be LORA")
    raw, _ = tensors.read(folder / WEIGHTS)
    layers = {}
    for key, tensor in raw.items():
        if not key.startswith(PREFIX) or not key.endswith((".lora_A.weight", ".lora_B.weight")):
            raise InvalidFileError(f"{WEIGHTS}: key {key!r} is not understood")
        if key.endswith(".lora_B.weight"):
            continue
        name = key.removeprefix(PREFIX).removesuffix(".lora_A.weight")
        other = f"{PREFIX}{name}.lora_B.weight"
        if other not in raw:
            raise InvalidFileError(f"{WEIGHTS}: {key!r} has no lora_B")
        down = from_raw(key, tensor)
        alpha = config.get("alpha_pattern", {}).get(name, config["lora_alpha"])
        layers[name] = LoraLayer(down, from_raw(other, raw[other]), float(alpha))
    return LoraAdapter("", layers)


def _config(adapter: LoraAdapter, base_model: str) -> dict[str, object]:
    layers = adapter.layers
    (rank, alpha), _ = Counter((x.rank, x.alpha) for x in layers.values()).most_common(1)[0]
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {n: x.rank for n, x in sorted(layers.items()) if x.rank != rank},
        "alpha_pattern": {n: x.alpha for n, x in sorted(layers.items()) if x.alpha != alpha},
        "target_modules": sorted(layers),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "use_rslora": False,
        "use_dora": False,
    }
