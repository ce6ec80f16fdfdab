"""``KEY=VALUE`` as people type it: ``--set`` takes one value, ``--sweep`` several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lorareg.errors import LoraregError
from lorareg.registry import yamlfile

BY_HAND = ("dataset.contains_personal_data", "dataset.waiver")


def settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Values of ``--set``, by dotted key.

    >>> settings(["lora.rank=8", "sample.prompts=[a red disc]"])
    {'lora.rank': 8, 'sample.prompts': ['a red disc']}
    """
    return {key: yamlfile.scalar(text) for key, text in _parts("--set", pairs, "lora.rank=8")}


def axes(pairs: Sequence[str]) -> dict[str, list[Any]]:
    """Values of ``--sweep``, several by dotted key.

    >>> axes(["lora.rank=4,8", "lora.targets=attention,[to_q, to_k]"])
    {'lora.rank': [4, 8], 'lora.targets': ['attention', ['to_q', 'to_k']]}
    """
    found: dict[str, list[Any]] = {}
    for key, text in _parts("--sweep", pairs, "lora.rank=4,8,16"):
        if key in found:
            raise LoraregError(f"--sweep {key} is given twice", fix=f"--sweep {key}=A,B,C")
        values = yamlfile.scalar(f"[{text}]")
        found[key] = [value for n, value in enumerate(values) if value not in values[:n]]
        if len(found[key]) < 1:
            raise LoraregError(f"--sweep {key}= has no values", fix=f"--sweep {key}=A,B,C")
    return found


def _parts(option: str, pairs: Sequence[str], example: str) -> list[tuple[str, str]]:
    found = []
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise LoraregError(f"{option} {pair!r} is not KEY=VALUE", fix=f"{option} {example}")
        if key.startswith(BY_HAND):
            raise LoraregError(
                f"{option} {key} is refused",
                why="whether people's data may be trained on is not a switch of a command",
                fix="let an owner edit manifest.yaml, and review it as any change",
            )
        found.append((key, text))
    return found
