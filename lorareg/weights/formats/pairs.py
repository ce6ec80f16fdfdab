"""What the PEFT-like formats share: factors in pairs, and the settings that say rank and alpha.

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
from lorareg.weights.adapter import LoraLayer, from_raw

PEFT_ENDINGS = (".lora_A.weight", ".lora_B.weight")
DIFFUSERS_ENDINGS = (".lora.down.weight", ".lora.up.weight")
DEFAULT = 8  # PEFT's own r and lora_alpha, where settings leave them out
NOT_PLAIN = (
    "use_dora", "use_rslora", "use_qalora", "lora_bias", "modules_to_save", "layer_replication",
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
        "use_dora": False,
    }


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
            that do not fit, or settings that are not those of plain LoRA. Nothing is skipped.
    """
    _check_plain(file, settings or {})
    modules: dict[str, list[str]] = {}
    problems = []
    for key in sorted(raw):
        ending = next((e for pair in endings for e in pair if key.endswith(e)), "")
        name = key.removeprefix(prefix).removesuffix(ending)
        if ending and name and key == f"{prefix}{name}{ending}":
            modules.setdefault(name, []).append(key)
        else:
            problems.append(f"key {key!r} is not understood")
    for name, keys in modules.items():
        if keys not in [[f"{prefix}{name}{down}", f"{prefix}{name}{up}"] for down, up in endings]:
            problems.append(f"key {keys[0]!r} has no partner, or more than one")
    if problems or not modules:
        raise InvalidFileError(
            f"{file} is no LoRA file that lorareg reads",
            why="\n" + listed(problems or ["it adapts nothing"]),
            fix=f"it takes pairs of {' and '.join(endings[0])}; convert the file to that form",
        )
    return {
        name: _layer(file, name, raw[down], raw[up], settings)
        for name, (down, up) in modules.items()
    }


def _layer(
    file: str, name: str, down: RawTensor, up: RawTensor, settings: Mapping[str, Any] | None
) -> LoraLayer:
    try:
        factors = from_raw(f"{file}: {name}, down", down), from_raw(f"{file}: {name}, up", up)
        rank = down.shape[0] if down.shape else 0
        if settings is None:
            return LoraLayer(*factors, float(rank))
        promised = setting(settings, "r", "rank_pattern", name)
        if promised != rank:
            raise ValueError(f"its settings say rank {promised:g}, its tensors {rank}")
        return LoraLayer(*factors, setting(settings, "lora_alpha", "alpha_pattern", name))
    except ValueError as error:
        raise InvalidFileError(
            f"{file}: module {name} is not a LoRA layer",
            why=str(error),
            fix="export the adapter again",
        ) from error


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


def _check_plain(file: str, settings: Mapping[str, Any]) -> None:
    kind = settings.get("peft_type", "LORA")
    found = [key for key in NOT_PLAIN if settings.get(key)]
    if kind != "LORA" or found or settings.get("bias", "none") != "none":
        raise InvalidFileError(
            f"{file} is not a plain LoRA",
            why=f"its settings say {', '.join(found) or kind}, and delta = (alpha / r) B A is all "
            "that lorareg reads",
            fix="merge it in the tool that made it, or train a plain LoRA",
        )


def _number(value: float) -> int | float:
    """16, not 16.0: some consumers take alpha for an integer."""
    return int(value) if float(value).is_integer() else value
