"""A GGUF adapter, which llama.cpp takes with ``--lora`` and Ollama as ``ADAPTER``.

Tensors are ``<llama.cpp's module>.weight.lora_a`` (rank, in) and ``.lora_b`` (out, rank). There is
one alpha a file, divided by each tensor's own rank: ranks have to be alike, and the scale of rsLoRA
folded in, or modules come out too strong. So the canonical form is written: one rank, alpha = rank.

llama.cpp turns a head's halves into pairs: in Llama's family the rows of q and k stand in another
order than in transformers, and so do the rows of their ``up``.
Source: ggml-org/llama.cpp, convert_lora_to_gguf.py, src/llama-adapter.cpp; gguf.TensorNameMap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lorareg.errors import InvalidFileError, LoraregError, listed
from lorareg.weights.adapter import Array, LoraAdapter, LoraLayer
from lorareg.weights.algebra import weighted_sum

PERMUTED = ("llama", "granite", "smollm3")
ARCHITECTURES = {
    "llama": "llama", "mistral": "llama", "granite": "granite", "smollm3": "smollm3",
    "qwen2": "qwen2", "qwen3": "qwen3", "gemma": "gemma", "gemma2": "gemma2",
    "gemma3": "gemma3", "gemma3_text": "gemma3", "phi3": "phi3", "olmo2": "olmo2",
    "starcoder2": "starcoder2",
}  # fmt: skip
"""transformers' model_type -> llama.cpp's architecture, where its converter only renames and, in
the first three, permutes; other families are changed in ways that a delta does not survive."""
ENDINGS = (".weight.lora_a", ".weight.lora_b")
_ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
_GATED = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
PARTS: dict[str, tuple[str, ...]] = {
    "phi3": ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"),
    "starcoder2": (*_ATTENTION, "mlp.c_fc", "mlp.c_proj"),
}
"""Linear layers of a block, where they are not Llama's."""


@dataclass(frozen=True)
class Base:
    """What of the base model shapes the file.

    Attributes:
        architecture: in llama.cpp's words.
        blocks: number of layers.
        heads: of attention; kv_heads: of keys and values.
    """

    architecture: str
    blocks: int
    heads: int
    kv_heads: int


def base_of_config(config: dict[str, Any]) -> Base:
    """Read what a transformers ``config.json`` says.

    Raises:
        LoraregError: an architecture whose tensors llama.cpp changes in other ways.
    """
    kind = str(config.get("model_type"))
    text = config.get("text_config")
    config = text if isinstance(text, dict) else config
    heads = config.get("num_attention_heads")
    blocks = config.get("num_hidden_layers")
    if kind not in ARCHITECTURES or not isinstance(heads, int) or not isinstance(blocks, int):
        raise _unknown(kind)
    return Base(ARCHITECTURES[kind], blocks, heads, int(config.get("num_key_value_heads") or heads))


def base_of_gguf(path: Path) -> Base:
    """Read what the header of a GGUF model says. Raises as ``base_of_config``."""
    import gguf

    fields = gguf.GGUFReader(path).fields

    def value(key: str) -> Any:
        field = fields.get(key)
        return field.contents() if field else None

    kind = str(value("general.architecture"))
    heads = value(f"{kind}.attention.head_count")
    if kind not in ARCHITECTURES.values() or not isinstance(heads, int):
        raise _unknown(kind)
    kv_heads = value(f"{kind}.attention.head_count_kv")
    return Base(kind, int(value(f"{kind}.block_count")), heads, int(kv_heads or heads))


def write(path: Path, adapter: LoraAdapter, base: Base, notes: dict[str, str]) -> None:
    """Write the canonical form of an adapter; ``notes`` are text fields beside llama.cpp's own.

    Raises:
        LoraregError: a DoRA, a convolution, or modules that llama.cpp has no name for.
    """
    import gguf

    if adapter.is_dora:
        raise LoraregError(
            "a DoRA cannot be said in a GGUF adapter",
            why="llama.cpp adds up @ down and knows no magnitudes",
            fix="export it as peft",
        )
    canonical = weighted_sum([(adapter, 1.0)])
    names = _names(canonical, base)
    writer = gguf.GGUFWriter(path, base.architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(canonical.rank))
    for key, text in sorted(notes.items()):
        writer.add_string(key, text)
    for module, layer in sorted(canonical.layers.items()):
        writer.add_tensor(names[module] + ENDINGS[0], np.ascontiguousarray(layer.down))
        up = _permuted(layer.up, _heads(module, base))
        writer.add_tensor(names[module] + ENDINGS[1], np.ascontiguousarray(up))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read(path: Path, base: Base) -> LoraAdapter:
    """Read an adapter as llama.cpp scales it, with the base's modules as transformers names them.

    Raises:
        InvalidFileError: it is no LoRA adapter of that architecture, or has other tensors in it.
    """
    import gguf

    reader = gguf.GGUFReader(path)
    said = {
        key: reader.fields[key].contents() if key in reader.fields else None
        for key in (
            "general.type", "general.architecture", "adapter.type", "adapter.lora.alpha",
        )
    }  # fmt: skip
    if list(said.values())[:3] != ["adapter", base.architecture, "lora"]:
        raise InvalidFileError(
            f"{path.name} is no LoRA adapter of {base.architecture}",
            why=", ".join(f"{key} is {value!r}" for key, value in said.items()),
            fix="use one that was made for this base",
        )
    modules = {name: module for module, name in _modules(base).items()}
    found: dict[str, dict[str, Array]] = {}
    strangers = []
    for tensor in reader.tensors:
        ending = next((e for e in ENDINGS if tensor.name.endswith(e)), "")
        module = modules.get(tensor.name.removesuffix(ending)) if ending else None
        if module is None:
            strangers.append(tensor.name)
        else:
            found.setdefault(module, {})[ending] = np.array(tensor.data, dtype=np.float32)
    strangers += [module for module, pair in found.items() if len(pair) != len(ENDINGS)]
    if strangers:
        raise InvalidFileError(f"{path.name} is not understood", why="\n" + listed(strangers))
    return _scaled(found, float(said["adapter.lora.alpha"] or 0.0), base)


def _scaled(found: Mapping[str, Mapping[str, Array]], alpha: float, base: Base) -> LoraAdapter:
    layers = {}
    for module, pair in found.items():
        down, up = (pair[ending] for ending in ENDINGS)
        up = _unpermuted(up, _heads(module, base))
        # llama.cpp: scale = alpha ? alpha / rank : 1
        layers[module] = LoraLayer(down, up, alpha or float(down.shape[0]))
    return LoraAdapter(layers)


def _unknown(kind: str) -> LoraregError:
    return LoraregError(
        f"no GGUF adapter can be made for a {kind}",
        why="what llama.cpp's converter does to its weights is known here for "
        + ", ".join(sorted(ARCHITECTURES)),
        fix="export it as peft, and convert that with llama.cpp's convert_lora_to_gguf.py",
    )


def _modules(base: Base) -> dict[str, str]:
    """Transformers' name of a module -> llama.cpp's, of all that there can be."""
    import gguf

    architecture = next(
        key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == base.architecture
    )
    known = gguf.get_tensor_name_map(architecture, base.blocks)
    parts = PARTS.get(base.architecture, (*_ATTENTION, *_GATED))
    places = [f"model.layers.{number}." for number in range(base.blocks)]
    found = {}
    for module in [f"{place}{part}" for place in places for part in parts] + ["lm_head"]:
        name = known.get_name(module)
        if name:
            found[module] = name
    return found


def _names(adapter: LoraAdapter, base: Base) -> dict[str, str]:
    known = _modules(base)
    odd = [
        name for name, layer in adapter.layers.items() if name not in known or layer.down.ndim != 2
    ]
    if odd:
        raise LoraregError(
            f"{len(odd)} modules have no name in llama.cpp's {base.architecture}",
            why="\n" + listed(sorted(odd)),
            fix="export it as peft",
        )
    return {name: known[name] for name in adapter.layers}


def _heads(module: str, base: Base) -> int:
    """How many heads' rows are permuted; 0 for none."""
    if base.architecture not in PERMUTED:
        return 0
    if module.endswith(".q_proj"):
        return base.heads
    return base.kv_heads if module.endswith(".k_proj") else 0


def _permuted(up: Array, heads: int) -> Array:
    """Rows of each head: first half and second half become pairs."""
    if not heads:
        return up
    return up.reshape(heads, 2, -1, up.shape[1]).swapaxes(1, 2).reshape(up.shape)


def _unpermuted(up: Array, heads: int) -> Array:
    if not heads:
        return up
    return up.reshape(heads, -1, 2, up.shape[1]).swapaxes(1, 2).reshape(up.shape)


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Module -> (out, in) of a GGUF model, by its header; what has no name here is left out."""
    import gguf

    found = {tensor.name: tensor.shape for tensor in gguf.GGUFReader(path).tensors}
    return {
        module: tuple(int(side) for side in reversed(found[f"{name}.weight"]))
        for module, name in _modules(base_of_gguf(path)).items()
        if f"{name}.weight" in found
    }
