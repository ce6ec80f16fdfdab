"""Adapters that share a planted part of their directions, with the shapes of Stable Diffusion 1.5.

As in training, singular values fall off like 1, 1/2, 1/3 ...; which of them are shared is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lorareg.weights.adapter import Array, LoraAdapter, LoraLayer

STAGES = {
    "down_blocks.0": (320, 2), "down_blocks.1": (640, 2), "down_blocks.2": (1280, 2),
    "mid_block": (1280, 1), "up_blocks.1": (1280, 3), "up_blocks.2": (640, 3),
    "up_blocks.3": (320, 3),
}  # fmt: skip
SMALL = {
    f"unet.{block}.attentions.0.to_{name}": (96, 64)
    for block in ("down_blocks.1", "mid_block", "up_blocks.1")
    for name in ("q", "k", "v")
}
"""Module -> (out, in)."""


def attention(*, with_ff: bool = False) -> dict[str, tuple[int, int]]:
    """The 128 attention modules of the UNet, or those and its 64 others."""
    found = {}
    for block, (width, count) in STAGES.items():
        for number in range(count):
            start = f"unet.{block}.attentions.{number}"
            inner = f"{start}.transformer_blocks.0"
            for attn, context in (("attn1", width), ("attn2", 768)):
                for name in ("to_q", "to_out.0"):
                    found[f"{inner}.{attn}.{name}"] = (width, width)
                for name in ("to_k", "to_v"):
                    found[f"{inner}.{attn}.{name}"] = (width, context)
            if with_ff:
                found[f"{inner}.ff.net.0.proj"] = (8 * width, width)
                found[f"{inner}.ff.net.2"] = (width, 4 * width)
                found[f"{start}.proj_in"] = found[f"{start}.proj_out"] = (width, width)
    return found


def sharing(
    modules: Mapping[str, tuple[int, int]], ranks: Sequence[int], share: float, seed: int = 0
) -> list[LoraAdapter]:
    """Adapters of ``ranks``, of whose directions ``share`` of the lowest rank is common to all."""
    random = np.random.default_rng(seed)
    common = round(share * min(ranks))
    layers: list[dict[str, LoraLayer]] = [{} for _ in ranks]
    for name, (out, into) in modules.items():
        ups, downs = _basis(random, out, min(ranks)), _basis(random, into, min(ranks))
        for mine, rank in zip(layers, ranks, strict=True):
            up, down = _basis(random, out, rank), _basis(random, into, rank)
            places = random.permutation(rank)[:common]
            up[:, places], down[:, places] = ups[:, :common], downs[:, :common]
            root = np.sqrt(1 / np.arange(1, rank + 1, dtype=np.float32))
            mine[name] = LoraLayer(root[:, None] * down.T, up * root, float(rank))
    return [LoraAdapter(each) for each in layers]


def _basis(random: np.random.Generator, width: int, rank: int) -> Array:
    return np.linalg.qr(random.standard_normal((width, rank)))[0].astype(np.float32)
