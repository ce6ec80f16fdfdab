"""The form of kohya's scripts, which A1111, Forge, ComfyUI and diffusers read.

Keys are ``<prefix>_<module with _ for .>.lora_down.weight``, ``.lora_up.weight`` and ``.alpha``,
where the prefix is ``lora_unet`` (a transformer too), ``lora_te`` (SD), ``lora_te1`` or
``lora_te2``. The delta is alpha / rank * up @ down; without alpha the scale is 1.

Three traps, each measured with diffusers 0.42: alphas that differ from module to module are dropped
by its loader, so one alpha is written and the rest folded into ``lora_up``; transformers 5 has lost
the level ``text_model`` that A1111 and ComfyUI look for, so it is put back; and a DoRA's
``dora_scale`` is dropped, so a DoRA is refused.
Source: kohya-ss/sd-scripts, networks/lora.py; AUTOMATIC1111, extensions-builtin/Lora/networks.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from lorareg.errors import InvalidFileError, LoraregError, listed
from lorareg.registry import tensors
from lorareg.registry.tensors import RawTensor
from lorareg.weights.adapter import LoraAdapter, LoraLayer, to_raw
from lorareg.weights.formats import fused, modulenames
from lorareg.weights.formats.factors import layer_of

PREFIXES = {
    "sd1": {"unet": "lora_unet", "text_encoder": "lora_te"},
    "sd2": {"unet": "lora_unet", "text_encoder": "lora_te"},
    "sdxl": {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"},
    "sd3": {"transformer": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"},
    "flux1": {"transformer": "lora_unet", "text_encoder": "lora_te1"},
}
"""Component -> prefix. T5 has none: kohya's scripts and the loaders do not agree on one."""
ENCODERS = {"lora_te": "text_encoder", "lora_te1": "text_encoder", "lora_te2": "text_encoder_2"}
LEVEL = "text_model."
OUTSIDE = ("conv_in", "conv_out", "time_embedding.", "add_embedding.")


def write(path: Path, adapter: LoraAdapter, family: str, notes: Mapping[str, str]) -> None:
    """Write an adapter of a ``family`` of ``PREFIXES``; ``notes`` are the header.

    Raises:
        LoraregError: a DoRA, or modules that the form has no name for.
    """
    tensors.write(path, raw(adapter, family), notes)


def raw(adapter: LoraAdapter, family: str) -> dict[str, RawTensor]:
    """The tensors of the file. Raises as ``write``."""
    if adapter.is_dora:
        raise LoraregError(
            "a DoRA cannot be said in kohya's form",
            why="its magnitudes would be dora_scale, which diffusers drops and kohya's own network "
            "does not have",
            fix="export it as diffusers",
        )
    flat, strangers = _named(adapter, family)
    if strangers:
        raise LoraregError(
            f"{len(strangers)} modules have no name in kohya's form of {family}",
            why="\n" + listed(strangers),
            fix="export it as diffusers, which has them",
        )
    flat |= _marks(flat)
    alpha = common_alpha(flat)
    found: dict[str, RawTensor] = {}
    for name, layer in flat.items():
        share = np.float32(layer.alpha / alpha)
        found[f"{name}.lora_down.weight"] = to_raw(layer.down)
        found[f"{name}.lora_up.weight"] = to_raw(layer.up * share)
        found[f"{name}.alpha"] = to_raw(np.array(alpha, dtype=np.float32))
    return found


def read(path: Path) -> LoraAdapter:
    """Read a file in kohya's form: a LoRA, a LoCon, a LoHa or a LoKr.

    Raises:
        InvalidFileError: it names every key that is not understood; none is skipped.
    """
    found, _ = tensors.read(path)
    modules: dict[str, dict[str, RawTensor]] = {}
    for key, tensor in found.items():
        name, _, part = key.partition(".")
        modules.setdefault(name, {})[part] = tensor
    layers: dict[str, LoraLayer] = {}
    problems: list[str] = []
    is_sd3 = any(name.startswith("lora_unet_joint_blocks_") for name in modules)
    for name, parts in sorted(modules.items()):
        try:
            placed = _placed(name, layer_of(f"{path.name}: {name}", parts), is_sd3)
        except ValueError as error:
            problems += [f"{name}.{part}: {error}" for part in sorted(parts)]
            continue
        clash = layers.keys() & placed.keys()
        problems += [f"{name}: {twice} is adapted twice" for twice in sorted(clash)]
        layers |= placed
    if problems or not layers:
        raise InvalidFileError(
            f"{path.name} has {len(problems)} keys that are not understood",
            why="\n" + listed(problems or ["it adapts nothing"], limit=100),
            fix="nothing is skipped: a part left out would be another adapter; save it as plain "
            "LoRA in the tool that made it",
        )
    return LoraAdapter(layers)


def common_alpha(layers: Mapping[str, LoraLayer]) -> float:
    """The commonest alpha that is above 0; the ranks' maximum if there is none."""
    alphas = Counter(x.alpha for x in layers.values() if x.alpha > 0 and x.up.any())
    if alphas:
        return min(alphas, key=lambda alpha: (-alphas[alpha], alpha))
    return float(max(layer.rank for layer in layers.values()))


def encoder_path(component: str, path: str, *, is_sd3: bool) -> str:
    """A CLIP module as transformers 5 names it: ``text_model`` only under a projection.

    The encoders of SD3 and the second one of SDXL have a projection. Source: transformers,
    ``CLIPTextModel`` and ``CLIPTextModelWithProjection``.
    """
    bare = path.removeprefix(LEVEL)
    projected = component != "text_encoder" or is_sd3
    return LEVEL + bare if projected and bare.startswith("encoder.") else bare


def _named(adapter: LoraAdapter, family: str) -> tuple[dict[str, LoraLayer], list[str]]:
    prefixes = PREFIXES[family]
    named: dict[str, LoraLayer] = {}
    original: dict[str, LoraLayer] = {}
    strangers = []
    for path, layer in adapter.layers.items():
        component, _, name = path.partition(".")
        prefix = prefixes.get(component)
        if component == "transformer":
            original[name] = layer
        elif prefix is None:
            strangers.append(path)
        else:
            name = _with_level(name) if component.startswith("text_encoder") else name
            flat = modulenames.flattened(name)
            if modulenames.path_of(flat) == name:
                named[f"{prefix}_{flat}"] = layer
            else:
                strangers.append(path)
    if original and family in fused.RULES:
        joined, unknown = fused.fused(original, family)
        strangers += [f"transformer.{name}" for name in unknown]
        named |= {f"lora_unet_{modulenames.flattened(n)}": x for n, x in joined.items()}
    elif original:
        strangers += [f"transformer.{name}" for name in original]
    return named, sorted(strangers)


def _marks(flat: Mapping[str, LoraLayer]) -> dict[str, LoraLayer]:
    """Layers of nothing, by which diffusers 0.42 recognises the attention of a text encoder.

    It takes q, k and v for what they are only where a file has an ``out_proj`` too.
    Source: diffusers.utils.state_dict_utils, ``convert_state_dict_to_diffusers``.
    """
    found = {}
    for prefix in ENCODERS:
        own = {name: layer for name, layer in flat.items() if name.startswith(f"{prefix}_")}
        attention = [name for name in own if name.endswith(("_q_proj", "_k_proj", "_v_proj"))]
        if attention and not any(name.endswith("_out_proj") for name in own):
            width = own[attention[0]].down.shape[1]
            empty = LoraLayer(np.zeros((1, width), "f4"), np.zeros((width, 1), "f4"), 1.0)
            found[f"{attention[0].removesuffix('_proj')[:-1]}out_proj"] = empty
    return found


def _with_level(name: str) -> str:
    return LEVEL + name if name.startswith("encoder.") else name


def _placed(name: str, layer: LoraLayer, is_sd3: bool) -> dict[str, LoraLayer]:
    """The layers of diffusers that a module of the file is.

    Raises:
        ValueError: its name is not understood.
    """
    if name.startswith("lora_unet_"):
        flat = name.removeprefix("lora_unet_")
        if fused.is_original(flat):
            if layer.magnitude is not None:
                raise ValueError("a DoRA of a fused module")
            parts = fused.parted(flat, layer)
            if parts is None:
                raise ValueError("no module of Flux or SD3 has this name")
            return {f"transformer.{path}": part for path, part in parts.items()}
        path = modulenames.path_of(flat)
        if path and path.startswith(("down_blocks.", "up_blocks.", "mid_block.", *OUTSIDE)):
            return {f"unet.{path}": layer}
    for prefix, component in ENCODERS.items():
        if name.startswith(f"{prefix}_"):
            path = modulenames.path_of(name.removeprefix(f"{prefix}_"))
            if path and path.startswith((f"{LEVEL}encoder.", "encoder.", "text_projection")):
                return {f"{component}.{encoder_path(component, path, is_sd3=is_sd3)}": layer}
    raise ValueError("no module has this name")


def with_one_spelling(adapter: LoraAdapter) -> LoraAdapter:
    """The same adapter, its text encoders' modules as transformers 5 names them."""
    is_sd3 = any(name.startswith("transformer.transformer_blocks.") for name in adapter.layers)
    is_sd3 = is_sd3 and not any(".single_transformer_blocks." in n for n in adapter.layers)
    layers = {}
    for name, layer in adapter.layers.items():
        component, _, path = name.partition(".")
        if component in ("text_encoder", "text_encoder_2"):
            path = encoder_path(component, path, is_sd3=is_sd3)
        layers[f"{component}.{path}"] = replace(layer)
    return LoraAdapter(layers)
