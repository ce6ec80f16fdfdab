"""The tensors of one module, as kohya's scripts and LyCORIS name them, read as a LoRA layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lorareg.registry.tensors import RawTensor
from lorareg.weights import foreign
from lorareg.weights.adapter import Array, LoraLayer, from_raw

LORA = ("lora_down.weight", "lora_up.weight")
LOHA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
LOHA_CORES = ("hada_t1", "hada_t2")
LOKR = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")
MIDDLE, ALPHA = "lora_mid.weight", "alpha"
DORA = "dora_scale"
"""LyCORIS's magnitudes: (out, 1) of rows, which a DoRA has, or (1, in) of columns."""


def layer_of(name: str, parts: Mapping[str, RawTensor]) -> LoraLayer:
    """Read one module's tensors, by what stands behind its name in the keys.

    Raises:
        ValueError: they are of no kind that a LoRA can say, or do not fit together.
        InvalidFileError: NaN, or a dtype that factors do not have.
    """
    reasons = [
        f"{part}: {why}"
        for part in sorted(parts)
        for ending, why in foreign.INEXACT.items()
        if part != DORA and f".{part}".removesuffix(".weight").endswith(ending)
    ]
    if reasons:
        raise ValueError(reasons[0])
    found = {
        part: from_raw(f"{name}.{part}", tensor) for part, tensor in parts.items() if part != ALPHA
    }
    alpha = _alpha(parts[ALPHA]) if ALPHA in parts else None
    scale = found.pop(DORA, None)
    layer = _layer(found, alpha)
    return layer if scale is None else replace(layer, magnitude=_magnitude(scale, layer.up))


def _layer(found: Mapping[str, Array], alpha: float | None) -> LoraLayer:
    names = found.keys()
    if names == {*LORA}:
        down, up = (found[name] for name in LORA)
        up = up.reshape(up.shape[:2]) if down.ndim == 2 else up
        # without alpha the scale is 1, as A1111 and ComfyUI have it
        return LoraLayer(down, up, float(down.shape[0]) if alpha is None else alpha)
    if names == {*LORA, MIDDLE}:
        return foreign.locon(found[LORA[0]], found[LORA[1]], found[MIDDLE], alpha)
    if names in ({*LOHA}, {*LOHA, *LOHA_CORES}):
        cores = (found[LOHA_CORES[0]], found[LOHA_CORES[1]]) if LOHA_CORES[0] in found else None
        first, second, third, fourth = (found[name] for name in LOHA)
        return foreign.loha(first, second, third, fourth, alpha, cores=cores)
    if names <= {*LOKR}:
        one, other = _either(found, "lokr_w1"), _either(found, "lokr_w2")
        return foreign.lokr(one, other, alpha, core=found.get("lokr_t2"))
    raise ValueError(f"no LoRA, LoHa or LoKr has just {', '.join(sorted(names))}")


def _either(found: Mapping[str, Array], name: str) -> Array | tuple[Array, Array]:
    """A whole matrix, or its two factors."""
    pair = f"{name}_a", f"{name}_b"
    match [each for each in (name, *pair) if each in found]:
        case [whole] if whole == name:
            return found[name]
        case [first, second] if (first, second) == pair:
            return found[first], found[second]
        case some:
            raise ValueError(f"a LoKr has {name} or both its factors, and here is {some}")


def _alpha(tensor: RawTensor) -> float:
    if tensor.shape not in ((), (1,)):
        raise ValueError(f"alpha has the shape {tensor.shape}")
    if tensor.dtype in ("I64", "I32"):  # diffusers' own converter writes an integer
        return float(int.from_bytes(tensor.data, "little", signed=True))
    return float(from_raw(ALPHA, tensor).reshape(-1)[0])


def _magnitude(scale: Array, up: Array) -> Array:
    if scale.size != up.shape[0] or scale.shape[:1] != (up.shape[0],):
        raise ValueError(
            f"dora_scale of shape {scale.shape} is of columns: a DoRA has the lengths of rows"
        )
    return scale.reshape(-1)
