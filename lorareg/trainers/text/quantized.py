"""A base in 4 or 8 bits through bitsandbytes, frozen under adapters in float32 (arXiv 2305.14314).

The LM head, embeddings and norms stay in the run's precision. On CUDA only: the 4-bit layers that
bitsandbytes 0.50 has for CPUs pass no gradient on, and say so in a warning at most. An adapter that
was trained so is used on the base in full precision too; its lock records ``train.quantization``.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import Any, Literal

import torch
import transformers

from lorareg.errors import TrainingError
from lorareg.registry.bases.base import ResolvedBase

Quantization = Literal["nf4", "int8"]


def refuse(base: ResolvedBase, device: str, kind: Quantization | None) -> None:
    """Say that a base cannot be quantized here, before anything of it is loaded.

    Raises:
        TrainingError: there is no CUDA or no bitsandbytes, or the base is a GGUF.
    """
    if kind is None:
        return
    what = f"train.quantization: {kind} cannot be used"
    if base.layout == "gguf":
        raise TrainingError(
            f"{what} on base {base.model}",
            why="it is a GGUF, whose weights are quantized already, in another way",
            fix="take the safetensors of the model as base.model, or delete train.quantization",
        )
    if not device.startswith("cuda"):
        raise TrainingError(
            f"{what} on {device}",
            why="bitsandbytes trains on CUDA only: elsewhere its layers may pass no gradient on",
            fix="delete train.quantization; to need less memory here set train.precision: bf16, "
            "train.gradient_checkpointing: true, or take a smaller base",
        )
    if find_spec("bitsandbytes") is None:
        raise TrainingError(
            f"{what}: bitsandbytes is not installed", fix="pip install bitsandbytes"
        )


def options(kind: Quantization, device: str, dtype: str) -> dict[str, Any]:
    """What ``from_pretrained`` is told; weights are quantized as they come onto the device."""
    if kind == "int8":
        # it would say at every product that inputs are cast to float16
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
        config = transformers.BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, dtype),
        )
    return {"quantization_config": config, "device_map": {"": device}}
