"""Pictures or replies side by side, as ``lorareg generate --grid`` makes them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lorareg.registry.workspace import Workspace
from lorareg.trainers.core.task import Sample
from lorareg.trainers.generate import Generator
from lorareg.trainers.lineup import side_by_side
from lorareg.weights.members import Composition

SEED = 0
MIN_SIDE, MAX_SIDE = 128, 256  # pixels that a picture takes on the page


@dataclass(frozen=True)
class Cell:
    """One output: a picture as a data URI with its width on the page, or a reply."""

    picture: str = ""
    width: int = 0
    reply: str = ""


@dataclass(frozen=True)
class Preview:
    """Rows of the base, each member alone, all but one, and all; a column for each prompt."""

    prompts: tuple[str, ...]
    seed: int
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def preview(
    workspace: Workspace,
    composition: Composition,
    prompts: Sequence[str],
    say: Callable[[str], None],
) -> Preview:
    """Generate every cell.

    Raises:
        LoraregError: the base is not here, or cannot wear the composition.
    """
    like = composition.components[0].manifest
    generator = Generator(workspace, like, like.sample)
    rows = []
    for entry in side_by_side(composition):
        say(f"generating: {entry.label}")
        samples = generator.samples(entry.composition, prompts, SEED)
        rows.append((entry.label, tuple(map(_cell, samples))))
    return Preview(tuple(prompts), SEED, tuple(rows))


def _cell(sample: Sample) -> Cell:
    if isinstance(sample.output, str):
        return Cell(reply=sample.output.strip())
    stream = io.BytesIO()
    sample.output.save(stream, "PNG", optimize=True)
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    width = min(max(sample.output.width, MIN_SIDE), MAX_SIDE)
    return Cell(picture=f"data:image/png;base64,{data}", width=width)
