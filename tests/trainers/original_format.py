"""Single-file checkpoints in the original layout, written from a folder in diffusers layout.

The names are those of CompVis (SD 1.x) and of Stability's generative-models (SDXL); the parts whose
names do not depend on the depth come from the tables diffusers converts with.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from diffusers.loaders.single_file_utils import DIFFUSERS_TO_LDM_MAPPING as TABLES
from safetensors.torch import load_file, save_file

State = dict[str, torch.Tensor]
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
OPEN_CLIP_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def write_sd(base: Path, path: Path) -> None:
    """A Stable Diffusion 1.x checkpoint."""
    state = unet(load(base, "unet")) | vae(load(base, "vae"))
    for name, value in load(base, "text_encoder").items():
        state[f"cond_stage_model.transformer.text_model.{short(name)}"] = value
    save(state, path)


def write_sdxl(base: Path, path: Path) -> None:
    """An SDXL checkpoint: CLIP under its own names, OpenCLIP with q, k and v in one matrix."""
    state = unet(load(base, "unet")) | vae(load(base, "vae"))
    for name, value in load(base, "text_encoder").items():
        state[f"conditioner.embedders.0.transformer.text_model.{short(name)}"] = value
    state |= open_clip(load(base, "text_encoder_2"), "conditioner.embedders.1.model.")
    save(state, path)


def load(base: Path, part: str) -> State:
    (file,) = (base / part).glob("*.safetensors")
    state: State = load_file(file)
    return state


def save(state: State, path: Path) -> None:
    save_file({name: value.contiguous() for name, value in state.items()}, path)


def short(name: str) -> str:
    """Transformers 5 leaves this level out, older ones wrote it."""
    return name.removeprefix("text_model.")


def unet(state: State) -> State:
    table = TABLES["unet"]["layers"] | TABLES["unet"]["addition_embed_type"]
    layers = 1 + max(int(n) for name in state for n in re.findall(r"down.*resnets\.(\d)", name))
    found = {}
    for name, value in state.items():
        found[table.get(name) or unet_block(name, layers)] = value
    attended = {name.partition(".1.")[0] for name in found if ".1.transformer_blocks." in name}
    return {
        f"model.diffusion_model.{upsampler_last(name, attended)}": value
        for name, value in found.items()
    }


def upsampler_last(name: str, attended: set[str]) -> str:
    """An upsampler comes after the attention of its block, where there is one."""
    block = name.partition(".upsampler.")[0]
    return name.replace(".upsampler.", ".2." if block in attended else ".1.")


def unet_block(name: str, layers: int) -> str:
    """A level has ``layers`` blocks on the way down and one more on the way up."""
    if match := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name):
        kind, number, rest = match.groups()
        place = 2 * int(number) if kind == "resnets" else 1
        return f"middle_block.{place}.{renamed(rest, RESNET) if kind == 'resnets' else rest}"
    match = re.fullmatch(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.+)", name)
    assert match, name
    way, level, kind, number, rest = match.groups()
    if kind == "downsamplers":
        return f"input_blocks.{(int(level) + 1) * (layers + 1)}.0.{rest.replace('conv', 'op')}"
    if kind == "upsamplers":
        return f"output_blocks.{(int(level) + 1) * (layers + 1) - 1}.upsampler.{rest}"
    block = int(level) * (layers + 1) + int(number) + (way == "down")
    side = "input_blocks" if way == "down" else "output_blocks"
    if kind == "resnets":
        return f"{side}.{block}.0.{renamed(rest, RESNET)}"
    return f"{side}.{block}.1.{rest}"


def vae(state: State) -> State:
    levels = 1 + max(int(n) for name in state for n in re.findall(r"up_blocks\.(\d)", name))
    found = {}
    for name, value in state.items():
        new = TABLES["vae"].get(name) or vae_block(name, levels)
        is_attention = ".mid.attn_1." in new and value.ndim == 2
        found[f"first_stage_model.{new}"] = value[:, :, None, None] if is_attention else value
    return found


def vae_block(name: str, levels: int) -> str:
    if match := re.fullmatch(r"(\w+)\.mid_block\.resnets\.(\d)\.(.+)", name):
        part, number, rest = match.groups()
        return f"{part}.mid.block_{int(number) + 1}.{rest}"
    if match := re.fullmatch(r"(\w+)\.mid_block\.attentions\.0\.(.+)", name):
        return f"{match[1]}.mid.attn_1.{renamed(match[2], VAE_ATTENTION)}"
    match = re.fullmatch(r"(\w+)\.(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.+)", name)
    assert match, name
    part, way, level, kind, number, rest = match.groups()
    place = int(level) if way == "down" else levels - 1 - int(level)
    if kind == "resnets":
        return (
            f"{part}.{way}.{place}.block.{number}.{rest.replace('conv_shortcut', 'nin_shortcut')}"
        )
    return f"{part}.{way}.{place}.{kind.removesuffix('rs')}.{rest}"


def open_clip(state: State, prefix: str) -> State:
    table = TABLES["openclip"]["layers"]
    found: State = {}
    joined: dict[str, State] = {}
    for name, value in state.items():
        if new := table.get(name):
            found[prefix + new] = value.T if new == "text_projection" else value
            continue
        match = re.fullmatch(r"text_model\.encoder\.layers\.(\d+)\.(.+)", name)
        assert match, name
        block, rest = f"{prefix}transformer.resblocks.{match[1]}.", match[2]
        if split := re.fullmatch(r"self_attn\.([qkv])_proj\.(weight|bias)", rest):
            joined.setdefault(f"{block}attn.in_proj_{split[2]}", {})[split[1]] = value
        else:
            found[block + renamed(rest, OPEN_CLIP_LAYER)] = value
    return found | {n: torch.cat([parts[x] for x in "qkv"]) for n, parts in joined.items()}


def renamed(name: str, table: dict[str, str]) -> str:
    for ours, theirs in table.items():
        if name.startswith(f"{ours}."):
            return theirs + name.removeprefix(ours)
    raise AssertionError(name)
