"""What the PEFT-like formats share: factors in pairs, and the settings that say rank and alpha.

A DoRA has a magnitude beside each pair, (out,) or, of a convolution, (1, out, 1, 1); rsLoRA scales
by alpha / sqrt(r), and is read as the plain LoRA with that scale.

PEFT scales a module by alpha / r and looks both up by the end of the module's name: a pattern
``to_q`` holds for every module that ends in ``.to_q``, ``^a.to_q`` for that one module.
Source: peft.utils.other, ``get_pattern_key``.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lorareg.errors import InvalidFileError, listed
from lorareg.registry.tensors import RawTensor
from lorareg.weights.adapter import Array, LoraLayer, from_raw, to_raw

PEFT_ENDINGS = (".lora_A.weight", ".lora_B.weight")
DIFFUSERS_ENDINGS = (".lora.down.weight", ".lora.up.weight")
ENCODER_ENDINGS = (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight")
DEFAULT = 8  # PEFT's own r and lora_alpha, where settings leave them out
MAGNITUDE = ".lora_magnitude_vector"
PARTS = ("down", "up")
NOT_PLAIN = (
    "use_qalora", "lora_bias", "modules_to_save", "layer_replication",
    "alora_invocation_tokens", "trainable_token_indices", "target_parameters",
)  # fmt: skip


def settings_of(layers: Mapping[str, LoraLayer]) -> dict[str, Any]:
    """The commonest rank and alpha, and patterns for the modules that differ."""
    (rank, alpha), _ = Counter((x.rank, x.alpha) for x in layers.values()).most_common(1)[0]
    return {
        "r": rank,
        "lora_alpha": _number(alpha),
        "rank_pattern": {f"^{n}": x.rank for n, x in sorted(layers.items()) if x.rank != rank},
        "alpha_pattern": {
            f"^{n}": _number(x.alpha) for n, x in sorted(layers.items()) if x.alpha != alpha
        },
        "target_modules": sorted(layers),
        "use_rslora": False,
        "use_dora": any(layer.magnitude is not None for layer in layers.values()),
    }


def raw_layers(
    layers: Mapping[str, LoraLayer],
    prefix: str,
    endings: tuple[str, str],
    magnitude: str = MAGNITUDE,
) -> dict[str, RawTensor]:
    """The tensors of a file, by key; the endings are of down and up, and of a DoRA's magnitude.

    Raises:
        ValueError: only some layers have a magnitude, which no settings can say.
    """
    raw = {}
    for name, layer in layers.items():
        raw[f"{prefix}{name}{endings[0]}"] = to_raw(layer.down)
        raw[f"{prefix}{name}{endings[1]}"] = to_raw(layer.up)
        if layer.magnitude is not None:
            shape = (-1,) if layer.up.ndim == 2 else (1, -1, 1, 1)
            raw[f"{prefix}{name}{magnitude}"] = to_raw(layer.magnitude.reshape(shape))
    if len(raw) not in (2 * len(layers), 3 * len(layers)):
        raise ValueError("some layers have a magnitude and some have none")
    return raw


def read_layers(
    file: str,
    raw: Mapping[str, RawTensor],
    prefix: str,
    endings: Sequence[tuple[str, str]],
    settings: Mapping[str, Any] | None,
) -> dict[str, LoraLayer]:
    """Pair the factors of every module.

    Args:
        file: name for errors.
        raw: tensors by key, ``<prefix><module><ending>``.
        prefix: of every key.
        endings: of (down, up), in each way of writing that is allowed.
        settings: as ``settings_of`` gives them, or None: then alpha = rank.

    Raises:
        InvalidFileError: a key that is not understood or has no partner, no module at all, shapes
            that do not fit, or settings that are not those of a LoRA. Nothing is skipped.
    """
    _check_settings(file, settings or {})
    allowed = settings is None or bool(settings.get("use_dora"))
    magnitudes = _magnitudes(raw, prefix) if allowed else {}
    modules: dict[str, list[str]] = {}
    problems = []
    for key in sorted(raw.keys() - magnitudes.values()):
        ending = next((e for pair in endings for e in pair if key.endswith(e)), "")
        name = key.removeprefix(prefix).removesuffix(ending)
        if ending and name and key == f"{prefix}{name}{ending}":
            modules.setdefault(name, []).append(key)
        else:
            problems.append(f"key {key!r} is not understood")
    for name, keys in modules.items():
        if keys not in [[f"{prefix}{name}{down}", f"{prefix}{name}{up}"] for down, up in endings]:
            problems.append(f"key {keys[0]!r} has no partner, or more than one")
    if magnitudes or (settings and allowed):
        odd = sorted(modules.keys() ^ magnitudes.keys())
        problems += [f"use_dora: module {n} lacks its factors or its magnitude" for n in odd]
    if problems or not modules:
        raise InvalidFileError(
            f"{file} is no LoRA file that lorareg reads",
            why="\n" + listed(problems or ["it adapts nothing"]),
            fix=f"it takes pairs of {' and '.join(endings[0])}; convert the file to that form",
        )
    return {
        name: _layer(file, name, (raw[down], raw[up], raw.get(magnitudes.get(name, ""))), settings)
        for name, (down, up) in modules.items()
    }


def _magnitudes(raw: Mapping[str, RawTensor], prefix: str) -> dict[str, str]:
    """Module -> key; with ``.weight`` behind it is transformers' own spelling."""
    return {
        key.removeprefix(prefix).removesuffix(".weight").removesuffix(MAGNITUDE): key
        for key in raw
        if key.startswith(prefix) and key.removesuffix(".weight").endswith(MAGNITUDE)
    }


def _layer(
    file: str,
    name: str,
    raw: tuple[RawTensor, RawTensor, RawTensor | None],
    settings: Mapping[str, Any] | None,
) -> LoraLayer:
    try:
        down, up = (
            from_raw(f"{file}: {name}, {x}", t) for x, t in zip(PARTS, raw[:2], strict=True)
        )
        rank = down.shape[0] if down.shape else 0
        alpha = float(rank) if settings is None else _alpha(settings, name, rank)
        return LoraLayer(down, up, alpha, _flat_magnitude(f"{file}: {name}, magnitude", raw[2]))
    except ValueError as error:
        raise InvalidFileError(
            f"{file}: module {name} is not a LoRA layer",
            why=str(error),
            fix="export the adapter again",
        ) from error


def _alpha(settings: Mapping[str, Any], name: str, rank: int) -> float:
    promised = setting(settings, "r", "rank_pattern", name)
    if promised != rank:
        raise ValueError(f"its settings say rank {promised:g}, its tensors {rank}")
    alpha = setting(settings, "lora_alpha", "alpha_pattern", name)
    return alpha * math.sqrt(rank) if settings.get("use_rslora") else alpha


def _flat_magnitude(name: str, raw: RawTensor | None) -> Array | None:
    if raw is None:
        return None
    values = from_raw(name, raw)
    if values.shape not in ((values.size,), (1, values.size, 1, 1)):
        raise ValueError(f"its magnitude has the shape {values.shape}")
    return values.reshape(-1)


def setting(settings: Mapping[str, Any], key: str, patterns: str, name: str) -> float:
    """Rank or alpha of a module; the first pattern that fits wins, as in PEFT.

    Raises:
        ValueError: it is no number, or a pattern is more than the end of a name.
    """
    table = settings.get(patterns) or {}
    value = settings.get(key, DEFAULT)
    for pattern, special in table.items() if isinstance(table, dict) else ():
        if not re.fullmatch(r"\^?[\w.]+", pattern):
            raise ValueError(f"{patterns} {pattern!r} is not understood")
        if name == pattern.removeprefix("^") or name.endswith(f".{pattern}"):
            value = special
            break
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{key} {value!r} is no number")
    return float(value)


def _check_settings(file: str, settings: Mapping[str, Any]) -> None:
    kind = settings.get("peft_type", "LORA")
    found = [key for key in NOT_PLAIN if settings.get(key)]
    if settings.get("bias", "none") != "none":
        found.append("bias")
    if kind != "LORA" or found:
        raise InvalidFileError(
            f"{file} is not a plain LoRA",
            why=f"its settings say {', '.join(found) or kind}, and delta = (alpha / r) B A, rsLoRA "
            "and DoRA are all that lorareg reads",
            fix="merge it in the tool that made it, or train a plain LoRA",
        )


def _number(value: float) -> int | float:
    """16, not 16.0: some consumers take alpha for an integer."""
    return int(value) if float(value).is_integer() else value
