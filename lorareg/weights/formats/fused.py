"""Flux and Stable Diffusion 3 as their authors name them: some of diffusers' modules are one there.

``img_attn.qkv`` is ``to_q``, ``to_k`` and ``to_v`` under each other. Taking one apart is exact with
the same ``down`` for each; putting them together is exact with a block-diagonal ``up``, of the sum
of the ranks. Every rank in it is made the same, so that converters that look for blocks of equal
height find them.
Source: black-forest-labs/flux, layers.py; kohya-ss/sd-scripts, networks/lora_flux.py, lora_sd3.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from lorareg.weights.adapter import Array, LoraLayer

MLP_RATIO = 4  # of Flux: rows of proj_mlp over those of to_q


@dataclass(frozen=True)
class Rule:
    """One module of the original, and the modules of diffusers that it is made of, in order.

    ``#`` stands for the number of the block. ``heights`` are the rows of each, in units of the
    first.
    """

    original: str
    parts: tuple[str, ...]
    heights: tuple[int, ...] = (1,)


def _qkv(original: str, block: str, names: tuple[str, str, str]) -> Rule:
    return Rule(original, tuple(f"{block}.{name}" for name in names), (1, 1, 1))


_DOUBLE, _SINGLE = "transformer_blocks.#", "single_transformer_blocks.#"
_OWN = ("attn.to_q", "attn.to_k", "attn.to_v")
_ADDED = ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")
FLUX = (
    _qkv("double_blocks.#.img_attn.qkv", _DOUBLE, _OWN),
    _qkv("double_blocks.#.txt_attn.qkv", _DOUBLE, _ADDED),
    Rule("double_blocks.#.img_attn.proj", (f"{_DOUBLE}.attn.to_out.0",)),
    Rule("double_blocks.#.txt_attn.proj", (f"{_DOUBLE}.attn.to_add_out",)),
    Rule("double_blocks.#.img_mlp.0", (f"{_DOUBLE}.ff.net.0.proj",)),
    Rule("double_blocks.#.img_mlp.2", (f"{_DOUBLE}.ff.net.2",)),
    Rule("double_blocks.#.txt_mlp.0", (f"{_DOUBLE}.ff_context.net.0.proj",)),
    Rule("double_blocks.#.txt_mlp.2", (f"{_DOUBLE}.ff_context.net.2",)),
    Rule("double_blocks.#.img_mod.lin", (f"{_DOUBLE}.norm1.linear",)),
    Rule("double_blocks.#.txt_mod.lin", (f"{_DOUBLE}.norm1_context.linear",)),
    Rule(
        "single_blocks.#.linear1",
        (*(f"{_SINGLE}.{name}" for name in _OWN), f"{_SINGLE}.proj_mlp"),
        (1, 1, 1, MLP_RATIO),
    ),
    Rule("single_blocks.#.linear2", (f"{_SINGLE}.proj_out",)),
    Rule("single_blocks.#.modulation.lin", (f"{_SINGLE}.norm.linear",)),
)
SD3 = (
    _qkv("joint_blocks.#.x_block.attn.qkv", _DOUBLE, _OWN),
    _qkv("joint_blocks.#.context_block.attn.qkv", _DOUBLE, _ADDED),
    _qkv(
        "joint_blocks.#.x_block.attn2.qkv",
        _DOUBLE,
        ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
    ),
    Rule("joint_blocks.#.x_block.attn.proj", (f"{_DOUBLE}.attn.to_out.0",)),
    Rule("joint_blocks.#.x_block.attn2.proj", (f"{_DOUBLE}.attn2.to_out.0",)),
    Rule("joint_blocks.#.context_block.attn.proj", (f"{_DOUBLE}.attn.to_add_out",)),
    Rule("joint_blocks.#.x_block.mlp.fc1", (f"{_DOUBLE}.ff.net.0.proj",)),
    Rule("joint_blocks.#.x_block.mlp.fc2", (f"{_DOUBLE}.ff.net.2",)),
    Rule("joint_blocks.#.context_block.mlp.fc1", (f"{_DOUBLE}.ff_context.net.0.proj",)),
    Rule("joint_blocks.#.context_block.mlp.fc2", (f"{_DOUBLE}.ff_context.net.2",)),
)
"""Modulation is left out: in the last block diffusers turns its halves round."""
RULES = {"flux1": FLUX, "sd3": SD3}


def fused(layers: Mapping[str, LoraLayer], family: str) -> tuple[dict[str, LoraLayer], list[str]]:
    """Layers by the original's names, and the modules that it has no name for."""
    known: dict[str, tuple[str, Rule, int]] = {}
    for name in layers:
        number = re.search(r"\.(\d+)\.", name)
        general = re.sub(r"\.\d+\.", ".#.", name, count=1)
        for rule in RULES[family]:
            if number and general in rule.parts:
                original = rule.original.replace("#", number[1])
                known[name] = (original, rule, rule.parts.index(general))
    groups: dict[str, dict[int, LoraLayer]] = {}
    rules = {original: rule for original, rule, _ in known.values()}
    for name, (original, _, place) in known.items():
        groups.setdefault(original, {})[place] = layers[name]
    found = {name: _joined(group, rules[name].heights) for name, group in groups.items()}
    return found, sorted(layers.keys() - known.keys())


def parted(flat: str, layer: LoraLayer) -> dict[str, LoraLayer] | None:
    """A layer under a flat original name as those of diffusers; None if it is not understood.

    What is zero is left out: modules that were not adapted, and ranks that are another part's.

    Raises:
        ValueError: rows that do not fit the module's parts.
    """
    for rule in (*FLUX, *SD3):
        pattern = re.escape(rule.original.replace(".", "_")).replace(r"\#", r"(\d+)")
        if found := re.fullmatch(pattern, flat):
            names = [part.replace("#", found[1]) for part in rule.parts]
            parts = zip(names, _split(layer, rule.heights), strict=True)
            return {name: part for name, part in parts if part is not None}
    return None


def is_original(flat: str) -> bool:
    """Whether a flat name is one of Flux or SD3 as their authors have it."""
    return flat.startswith(("double_blocks_", "single_blocks_", "joint_blocks_"))


def _split(layer: LoraLayer, heights: tuple[int, ...]) -> Iterator[LoraLayer | None]:
    if len(heights) == 1:
        yield layer
        return
    unit, rest = divmod(layer.up.shape[0], sum(heights))
    if rest:
        raise ValueError(f"{layer.up.shape[0]} rows are not those of {len(heights)} modules")
    start = 0
    for height in heights:
        end = start + height * unit
        yield _without_zeros(replace(layer, up=layer.up[start:end]))
        start = end


def _without_zeros(layer: LoraLayer) -> LoraLayer | None:
    used = np.any(layer.up != 0, axis=0)
    if not used.any():
        return None
    down, up = np.ascontiguousarray(layer.down[used]), np.ascontiguousarray(layer.up[:, used])
    return LoraLayer(down, up, layer.scale * down.shape[0])


def _joined(group: Mapping[int, LoraLayer], heights: tuple[int, ...]) -> LoraLayer:
    if len(heights) == 1:
        return group[0]
    rank = max(layer.rank for layer in group.values())
    one = next(iter(group.items()))
    unit = one[1].up.shape[0] // heights[one[0]]
    width = one[1].down.shape[1]
    down = np.zeros((rank * len(heights), width), np.float32)
    up = np.zeros((unit * sum(heights), rank * len(heights)), np.float32)
    for place, layer in group.items():
        rows = slice(unit * sum(heights[:place]), unit * sum(heights[: place + 1]))
        columns = slice(rank * place, rank * place + layer.rank)
        down[columns] = layer.down
        up[rows, columns] = _scaled(layer)
    return LoraLayer(down, up, float(down.shape[0]))


def _scaled(layer: LoraLayer) -> Array:
    return layer.up * np.float32(layer.scale)
