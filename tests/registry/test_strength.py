from __future__ import annotations

import pytest

from lorareg.errors import LoraregError
from lorareg.registry.strength import Strength, check_key

UP = "unet.up_blocks.1.attentions.0.to_q"


@pytest.mark.parametrize(
    ("key", "module"),
    [
        ("unet", UP),
        ("up", UP),
        ("up.1", UP),
        ("mid", "unet.mid_block.attentions.0.to_q"),
        ("transformer", "transformer.single_transformer_blocks.3.attn.to_q"),
        ("te", "text_encoder_2.encoder.layers.0.mlp.fc1"),
        ("te1", "text_encoder.encoder.layers.0.mlp.fc1"),
        ("layers.3", "model.layers.3.self_attn.q_proj"),
        ("layers.0-7", "transformer.h.7.attn.c_attn"),
    ],
)
def test_a_key_names_the_modules_of_its_component_or_block(key: str, module: str) -> None:
    assert Strength(1.0, {key: 0.25}).of(module) == 0.25


@pytest.mark.parametrize(
    ("key", "module"),
    [
        ("up", "unet.down_blocks.1.attentions.0.to_q"),
        ("up.1", "unet.up_blocks.10.attentions.0.to_q"),
        ("te1", "text_encoder_2.encoder.layers.0.mlp.fc1"),
        ("layers.0-7", "model.layers.8.self_attn.q_proj"),
        ("layers.1", "model.layers.11.self_attn.q_proj"),
    ],
)
def test_every_other_module_keeps_the_weight(key: str, module: str) -> None:
    assert Strength(1.0, {key: 0.25}).of(module) == 1.0


@pytest.mark.parametrize(
    ("blocks", "module", "weight"),
    [
        ({"unet": 0.1, "up": 0.2, "up.1": 0.3}, UP, 0.3),
        ({"te": 0.1, "te2": 0.2}, "text_encoder_2.encoder.layers.0.mlp.fc1", 0.2),
        ({"layers.0-7": 0.1, "layers.2-3": 0.2}, "model.layers.3.mlp.up_proj", 0.2),
    ],
)
def test_the_most_particular_key_holds(
    blocks: dict[str, float], module: str, weight: float
) -> None:
    assert Strength(1.0, blocks).of(module) == weight


@pytest.mark.parametrize("key", ["", "unet.", "down.x", "layers.7-3", "text_encoder", "../up"])
def test_another_key_is_refused_by_name(key: str) -> None:
    with pytest.raises(LoraregError, match="names no component and no block"):
        check_key(key)
