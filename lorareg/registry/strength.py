"""How strong a member of a composition is: one weight, or other ones for components and blocks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from lorareg.errors import LoraregError

MAX_WEIGHT = 100
COMPONENTS = {
    "unet": r"unet\.",
    "transformer": r"transformer\.",
    "te": r"text_encoder(_[23])?\.",
    "te1": r"text_encoder\.",
    "te2": r"text_encoder_2\.",
    "te3": r"text_encoder_3\.",
}
STAGES = {"down": "down_blocks", "mid": "mid_block", "up": "up_blocks"}
KEY = re.compile(
    r"(unet|transformer|te[123]?)|(down|mid|up)(?:\.(\d{1,3}))?|layers\.(\d{1,4})(?:-(\d{1,4}))?"
)


@dataclass(frozen=True)
class Strength:
    """A weight, linear in the delta, and weights that replace it in some modules.

    Attributes:
        weight: of every module that no block names.
        blocks: component (``unet``, ``te``, ``te1`` ...), stage of a UNet (``down``, ``mid``,
            ``up``, ``up.1``) or layers of a transformer (``layers.3``, ``layers.0-7``) -> its
            weight; the most particular one holds.

    >>> Strength(0.8, {"te": 0.5, "up": 0.4}).of("unet.up_blocks.1.attentions.0.to_q")
    0.4
    """

    weight: float
    blocks: Mapping[str, float] = field(default_factory=dict)

    def of(self, module: str) -> float:
        """The weight of a module, by its path in the pipeline or the model."""
        fitting = [key for key in self.blocks if pattern(key).match(module)]
        return self.blocks[max(fitting, key=_particular)] if fitting else self.weight

    def times(self, factor: float) -> Strength:
        """Every weight multiplied: a recipe within a recipe."""
        return Strength(self.weight * factor, {k: w * factor for k, w in self.blocks.items()})

    @property
    def is_plain(self) -> bool:
        """Whether one weight holds for every module."""
        return not self.blocks

    @property
    def ordered(self) -> dict[str, float]:
        """The blocks by name."""
        return dict(sorted(self.blocks.items()))

    def __str__(self) -> str:
        blocks = ",".join(f"{key}={weight!r}" for key, weight in self.ordered.items())
        return f"{self.weight!r}{{{blocks}}}" if blocks else repr(self.weight)


def check_key(text: str) -> str:
    """Return ``text`` if it names a component or blocks.

    Raises:
        LoraregError: it does not.
    """
    found = KEY.fullmatch(text)
    if found and (found[5] is None or int(found[4]) <= int(found[5])):
        return text
    raise LoraregError(
        f"{text!r} names no component and no block",
        why=f"components are {', '.join(COMPONENTS)}; blocks are {', '.join(STAGES)}, up.1, "
        "layers.3 and layers.0-7",
        fix="write it as style/ink:0.7{te=0.5,up=0.4}",
    )


@cache
def pattern(key: str) -> re.Pattern[str]:
    """What the path of a module that a key names begins with."""
    found = KEY.fullmatch(key)
    if found is None:
        raise ValueError(key)
    component, stage, index, first, last = found.groups()
    if component:
        return re.compile(COMPONENTS[component])
    if stage:
        return re.compile(rf"unet\.{STAGES[stage]}\." + (rf"{index}\." if index else ""))
    numbers = range(int(first), int(last or first) + 1)
    return re.compile(rf"(?:\w+\.)*?(?:layers|h|blocks)\.(?:{'|'.join(map(str, numbers))})\.")


def _particular(key: str) -> tuple[int, int]:
    """How narrow a key is: blocks before stages before components; fewer layers before more."""
    found = KEY.fullmatch(key)
    if found is None:
        raise ValueError(key)
    component, stage, index, first, last = found.groups()
    if component:
        return (0, 0 if component == "te" else 1)
    if stage:
        return (1, 1 if index else 0)
    return (1, int(first) - int(last or first))
