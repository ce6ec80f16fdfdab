"""A PEFT folder: ``adapter_model.safetensors`` and ``adapter_config.json``.

Read by ``PeftModel.from_pretrained``, vLLM, LoRAX and TGI. Keys are
``base_model.model.<module>.lora_A.weight`` and ``.lora_B.weight``, of a DoRA also
``.lora_magnitude_vector``; scale is alpha / r.
Source: peft.utils.save_and_load, ``get_peft_model_state_dict``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from lorareg.errors import InvalidFileError
from lorareg.registry import tensors
from lorareg.registry.files import write_atomically
from lorareg.registry.lock import load_json
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.formats.pairs import PEFT_ENDINGS, raw_layers, read_layers, settings_of

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
PREFIX = "base_model.model."


def write(folder: Path, adapter: LoraAdapter, base_model: str, notes: Mapping[str, str]) -> None:
    """Write both files; ``base_model`` is what consumers are told to load, never a local path."""
    raw = raw_layers(adapter.layers, PREFIX, PEFT_ENDINGS)
    tensors.write(folder / WEIGHTS, raw, {"format": "pt", **notes})
    config = json.dumps(_config(adapter, base_model), indent=2, sort_keys=True)
    write_atomically(folder / CONFIG, config + "\n")


def read(folder: Path, weights: str = WEIGHTS) -> LoraAdapter:
    """Read a PEFT LoRA folder; ``weights`` is the file in it, where that has another name.

    Raises:
        NotFoundError: it has no ``adapter_config.json``.
        InvalidFileError: no LoRA, or anything in it that is not understood.
    """
    config = load_json(folder / CONFIG, CONFIG)
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise InvalidFileError(
            f"{CONFIG} is not that of a LoRA",
            why=f"peft_type is {kind!r}, and LORA is expected",
            fix="point at a folder that PEFT's save_pretrained wrote for a LoRA",
        )
    raw, _ = tensors.read(folder / weights)
    return LoraAdapter(read_layers(weights, raw, PREFIX, (PEFT_ENDINGS,), config))


def _config(adapter: LoraAdapter, base_model: str) -> dict[str, object]:
    return {
        **settings_of(adapter.layers),
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
