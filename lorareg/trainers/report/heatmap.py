"""How much the members of a composition overlap, as a picture: pairs by blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lorareg.weights.conflict import Conflicts, Meeting, Overlap

HOTTEST = 0.5  # share of a change; above it the colour stays the same
INCH = 0.75  # of a cell
COLORS = "YlOrRd"


def draw(path: Path, conflicts: Conflicts) -> Path:
    """Draw what each pair writes alike, and reads alike, in every block.

    A cell says the share of the one's change in per cent, and below it how many times chance that
    is. Inputs that began as the same random numbers are grey: their overlap says nothing.
    """
    from matplotlib.figure import Figure

    pairs, blocks = conflicts.pairs, conflicts.blocks
    width = 3 + INCH * max(1, len(blocks))
    figure = Figure(figsize=(width, 1.6 + INCH * 2 * max(1, len(pairs))), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    _panel(above, conflicts, "output", "directions written alike")
    _panel(below, conflicts, "input", "directions read alike")
    return _save(figure, path)


def _panel(axes: Any, conflicts: Conflicts, side: str, title: str) -> None:
    rows = [
        [_side(pair.blocks.get(block), side) for block in conflicts.blocks]
        for pair in conflicts.pairs
    ]
    shares = [[cell.share if cell else float("nan") for cell in row] for row in rows]
    if shares:
        axes.imshow(shares, cmap=COLORS, vmin=0, vmax=HOTTEST, aspect="auto")
    for place, (pair, row) in enumerate(zip(conflicts.pairs, rows, strict=True)):
        is_grey = side == "input" and pair.has_common_start
        if is_grey:
            axes.axhspan(place - 0.5, place + 0.5, color="#d9d9d9")
        for column, cell in enumerate(row):
            if cell:
                words = f"{cell.share:.0%}\n{cell.times:.1f}x"
                is_dark = cell.share > HOTTEST * 0.7 and not is_grey
                color = "white" if is_dark else "black"
                axes.text(column, place, words, ha="center", va="center", size=7, color=color)
    names = [f"{conflicts.names[p.one]}\n{conflicts.names[p.other]}" for p in conflicts.pairs]
    axes.set_yticks(range(len(names)), names, size=7)
    axes.set_xticks(range(len(conflicts.blocks)), conflicts.blocks, size=7, rotation=45)
    axes.set_title(title, size=9, loc="left")


def _side(met: Meeting | None, side: str) -> Overlap | None:
    if met is None:
        return None
    return met.output if side == "output" else met.input


def _save(figure: Any, path: Path) -> Path:
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from lorareg.registry.files import write_atomically

    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream)  # type: ignore[no-untyped-call]
    write_atomically(path, stream.getvalue())
    return path
