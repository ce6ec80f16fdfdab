"""Modules by block, under the names that a composition's expression has for them."""

from __future__ import annotations

import re
from collections.abc import Iterable

GROUPS = 4  # of a language model's layers: early, middle, late, last
REST = "rest"
"""Modules that no key of an expression names: ``unet.conv_in``, ``lm_head``."""
STAGE = re.compile(r"unet\.(?:(down|up)_blocks\.(\d+)\.|(mid)_block\.)")
ENCODER = re.compile(r"text_encoder(?:_([23]))?\.")
LAYER = re.compile(r"(?:\w+\.)*?(?:layers|h|blocks)\.(\d+)\.")
STAGES = ("te", "te1", "te2", "te3", "transformer", "down", "mid", "up", "layers", REST)


def blocks(modules: Iterable[str]) -> dict[str, str]:
    """Module -> block; the blocks come in the order in which a signal meets them.

    A UNet has its stages (``down.0``, ``mid``, ``up.2``), a pipeline its text encoders (``te``, or
    ``te1`` and ``te2``) and its transformer, a language model its layers in groups
    (``layers.0-7``). Every name but ``rest`` is a key of ``strength.Strength``.

    >>> blocks(["unet.mid_block.attentions.0.to_q", "text_encoder.layers.0.q_proj"])
    {'text_encoder.layers.0.q_proj': 'te', 'unet.mid_block.attentions.0.to_q': 'mid'}
    """
    names = sorted(modules)
    several = any(name.startswith(("text_encoder_2.", "text_encoder_3.")) for name in names)
    groups = _groups(names)
    found = {name: _block(name, several, groups) for name in names}
    return dict(sorted(found.items(), key=lambda item: (_place(item[1]), item[0])))


def example(block: str) -> str:
    """The path of a module in a block, as ``Strength.of`` takes it; of ``rest``, none in any.

    >>> example("up.1"), example("te2"), example("layers.8-15")
    ('unet.up_blocks.1.', 'text_encoder_2.', 'layers.8.')
    """
    stage, _, number = block.partition(".")
    if stage in ("down", "up"):
        return f"unet.{stage}_blocks.{number}."
    if stage == "layers":
        return f"layers.{number.partition('-')[0]}."
    names = {"mid": "unet.mid_block.", "te": "text_encoder.", "te1": "text_encoder."}
    names |= {"te2": "text_encoder_2.", "te3": "text_encoder_3.", "transformer": "transformer."}
    return names.get(stage, "")


def _block(name: str, several: bool, groups: dict[int, str]) -> str:
    if stage := STAGE.match(name):
        return stage[3] or f"{stage[1]}.{stage[2]}"
    if encoder := ENCODER.match(name):
        return f"te{encoder[1] or 1}" if several else "te"
    if name.startswith("transformer."):
        return "transformer"
    layer = _layer(name)
    return REST if layer is None else groups[layer]


def _layer(name: str) -> int | None:
    """Number of the layer that a module of a language model is in."""
    found = None if name.startswith("unet.") or ENCODER.match(name) else LAYER.match(name)
    return int(found[1]) if found else None


def _groups(names: Iterable[str]) -> dict[int, str]:
    """Layer -> its group, four of like size."""
    layers = [layer for name in names if (layer := _layer(name)) is not None]
    count = max(layers, default=-1) + 1
    size = -(-count // GROUPS)
    groups = {}
    for layer in range(count):
        first = layer - layer % size
        last = min(first + size, count) - 1
        groups[layer] = f"layers.{first}-{last}" if last > first else f"layers.{first}"
    return groups


def _place(block: str) -> tuple[int, int]:
    stage, _, number = block.partition(".")
    return STAGES.index(stage), int(number.partition("-")[0] or 0)
