from __future__ import annotations

import pytest

from lorareg.registry.strength import Strength, check_key
from lorareg.weights.blocks import REST, blocks, example

SDXL = [
    "text_encoder.text_model.encoder.layers.0.self_attn.q_proj",
    "text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj",
    "unet.down_blocks.1.attentions.0.proj_in",
    "unet.mid_block.attentions.0.proj_in",
    "unet.up_blocks.0.attentions.0.proj_in",
    "unet.up_blocks.10.attentions.0.proj_in",
    "unet.conv_in",
]


def test_blocks_come_in_the_order_of_the_signal() -> None:
    assert list(dict.fromkeys(blocks(reversed(SDXL)).values())) == [
        "te1", "te2", "down.1", "mid", "up.0", "up.10", REST,
    ]  # fmt: skip


def test_a_lone_text_encoder_has_no_number() -> None:
    assert blocks(SDXL[:1])[SDXL[0]] == "te"


@pytest.mark.parametrize(
    ("layers", "groups"),
    [
        (30, ["layers.0-7", "layers.8-15", "layers.16-23", "layers.24-29"]),
        (4, ["layers.0", "layers.1", "layers.2", "layers.3"]),
        (1, ["layers.0"]),
    ],
)
def test_the_layers_of_a_language_model_are_in_four_groups(layers: int, groups: list[str]) -> None:
    names = [f"model.layers.{number}.self_attn.q_proj" for number in range(layers)]

    assert list(dict.fromkeys(blocks([*names, "lm_head"]).values())) == [*groups, REST]


@pytest.mark.parametrize("names", [SDXL, [f"model.layers.{n}.mlp.up_proj" for n in range(10)]])
def test_every_block_is_a_key_that_weakens_its_modules_and_no_others(names: list[str]) -> None:
    found = blocks(names)

    for block in set(found.values()) - {REST}:
        strength = Strength(1.0, {check_key(block): 0.5})
        weakened = {name for name in names if strength.of(name) == 0.5}
        assert weakened == {name for name in names if found[name] == block}
        assert strength.of(example(block)) == 0.5
