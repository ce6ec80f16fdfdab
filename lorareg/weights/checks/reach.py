"""Whether what an expression says of blocks and steps reaches anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lorareg.registry.finding import Finding
from lorareg.registry.strength import pattern
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.members import Component, Composition


def check(
    composition: Composition, adapters: Sequence[tuple[str, LoraAdapter]]
) -> Iterator[Finding]:
    """Name blocks without a module, and steps where nothing is denoised.

    Args:
        composition: the members.
        adapters: name of a member -> its weights, as far as they can be read.
    """
    known = dict(adapters)
    for part in composition.components:
        if part.state.ref in known:
            yield from _idle(part, known[part.state.ref])
    if composition.task == "text-generation" and composition.is_scheduled:
        yield Finding(
            False,
            "steps",
            "a language model has no denoising steps",
            "leave steps=... and the schedule out",
        )


def _idle(part: Component, adapter: LoraAdapter) -> Iterator[Finding]:
    idle = [
        key
        for key in part.strength.blocks
        if not any(pattern(key).match(module) for module in adapter.layers)
    ]
    if idle:
        detail = f"{part.state.ref} changes no module in {', '.join(idle)}: that does nothing"
        yield Finding(False, "blocks", detail, "leave it out", is_hard=False)
