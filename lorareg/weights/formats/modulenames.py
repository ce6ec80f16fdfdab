"""Module paths as kohya's files spell them: every dot an underscore, and back.

``down_blocks.0.attn1.to_q`` becomes ``down_blocks_0_attn1_to_q``. The way back takes the words that
the modules of a UNet and a CLIP text encoder are made of, the longest first; what holds another
word is not understood and has no path. kohya names SDXL's UNet as Stability's own code does
(``input_blocks_4_1_...``): such paths are led back to diffusers' too.
Source: kohya-ss/sd-scripts, networks/lora.py; Stability-AI/generative-models, openaimodel.py.
"""

from __future__ import annotations

import re

WORDS = frozenset(
    [
        "down_blocks",
        "mid_block",
        "up_blocks",
        "attentions",
        "resnets",
        "transformer_blocks",
        "downsamplers",
        "upsamplers",
        "attn1",
        "attn2",
        "to_q",
        "to_k",
        "to_v",
        "to_out",
        "ff",
        "net",
        "proj",
        "proj_in",
        "proj_out",
        "conv",
        "conv1",
        "conv2",
        "conv_in",
        "conv_out",
        "conv_shortcut",
        "time_emb_proj",
        "time_embedding",
        "add_embedding",
        "linear_1",
        "linear_2",
        "text_model",
        "encoder",
        "layers",
        "self_attn",
        "q_proj",
        "k_proj",
        "v_proj",
        "out_proj",
        "mlp",
        "fc1",
        "fc2",
        "text_projection",
        "input_blocks",
        "middle_block",
        "output_blocks",
        "in_layers",
        "out_layers",
        "emb_layers",
        "skip_connection",
        "op",
        "time_embed",
        "label_emb",
        "out",
    ]
)
LONGEST = 3  # parts of a word: time_emb_proj
PER_LEVEL = 3  # SD and SDXL: two layers and a resampler, or three layers, a level
ENTRY = {
    "input_blocks.0.0": "conv_in",
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "out.2": "conv_out",
}
RESNET = {
    "in_layers.2": "conv1",
    "out_layers.3": "conv2",
    "emb_layers.1": "time_emb_proj",
    "skip_connection": "conv_shortcut",
}


def flattened(path: str) -> str:
    """The path as part of a key."""
    return path.replace(".", "_")


def path_of(flat: str) -> str | None:
    """The path that a flat name means, in diffusers' words; None if it is not understood.

    >>> path_of("down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_out_0")
    'down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_out.0'
    >>> path_of("input_blocks_4_1_proj_in"), path_of("down_blocks_0_magic")
    ('down_blocks.1.attentions.0.proj_in', None)
    """
    pieces = flat.split("_")
    words: list[str] = []
    while pieces:
        for length in range(min(LONGEST, len(pieces)), 0, -1):
            word = "_".join(pieces[:length])
            if word in WORDS or (length == 1 and word.isdecimal()):
                words.append(word)
                del pieces[:length]
                break
        else:
            return None
    return _in_diffusers_words(".".join(words))


def _in_diffusers_words(path: str) -> str | None:
    if path in ENTRY:
        return ENTRY[path]
    first = path.partition(".")[0]
    if first in ("time_embed", "label_emb", "out"):
        return None
    if first not in ("input_blocks", "middle_block", "output_blocks"):
        return path
    found = re.fullmatch(r"(?:(in|out)put_blocks\.(\d+)|middle_block)\.(\d+)\.(.+)", path)
    if found is None:
        return None
    side, block, inner, rest = found.groups()
    place = (
        _middle(int(inner)) if side is None else _place(side == "in", int(block), int(inner), rest)
    )
    if place is None:
        return None
    if ".resnets." in place:
        return f"{place}.{RESNET[rest]}" if rest in RESNET else None
    if ".downsamplers." in place or ".upsamplers." in place:
        return f"{place}.conv"
    return f"{place}.{rest}"


def _middle(inner: int) -> str | None:
    places = ("resnets.0", "attentions.0", "resnets.1")
    return f"mid_block.{places[inner]}" if inner < len(places) else None


def _place(entering: bool, block: int, inner: int, rest: str) -> str | None:
    """Where the inner module of a numbered block stands.

    A block is a resnet, then an attention if the level has one, then a resampler if it is the last.
    """
    if entering:
        level, layer = divmod(block - 1, PER_LEVEL)
        side, sampler = f"down_blocks.{level}", rest == "op"
        if block == 0 or sampler != (layer == PER_LEVEL - 1):
            return None
    else:
        level, layer = divmod(block, PER_LEVEL)
        side, sampler = f"up_blocks.{level}", rest == "conv"
        if sampler and (layer != PER_LEVEL - 1 or inner == 0):
            return None
    if sampler:
        return f"{side}.{'down' if entering else 'up'}samplers.0"
    if inner > 1:
        return None
    return f"{side}.{'attentions' if inner else 'resnets'}.{layer}"
