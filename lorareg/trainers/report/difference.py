"""How two states of an adapter differ in weight space, as a picture: layers by components."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from lorareg.trainers.report import fonts
from lorareg.weights.difference import Difference, Layer, Sums

COLORS, BEFORE, AFTER = "YlOrRd", "#7f7f7f", "#2f5597"
ROW, COLUMN, PANEL, MARGIN = 0.24, 0.62, 1.7, 2.6  # inches
CELLS_WITH_WORDS = 600  # more of them are too small to read
LAYER = re.compile(
    r"(.*\b(?:transformer_blocks|attentions|resnets|layers|h|blocks|downsamplers|upsamplers)\.\d+)"
    r"\.(.+)"
)
FIRST, FURTHER = ".block.0", re.compile(r"\.block\.[1-9]")
SHORT = (
    (r"^unet\.|^model\.|^base_model\.", ""),
    (r"\btext_model\.encoder\.|\bencoder\.", ""),
    (r"^text_encoder", "te"),
    (r"\b(down|mid|up)_blocks?", r"\1"),
    (r"transformer_blocks", "block"),
    (r"attentions", "attn"),
    (r"single_", "single "),
)


@dataclass(frozen=True)
class Row:
    """The modules of one layer: component -> module."""

    name: str
    modules: dict[str, Layer]

    @property
    def sums(self) -> Sums:
        """Over all of them."""
        return reduce(Sums.__add__, (layer.sums for layer in self.modules.values()), Sums())

    @property
    def effective(self) -> tuple[float, float]:
        """Means of their effective ranks."""
        count = len(self.modules)
        before, after = (sum(x.effective[i] for x in self.modules.values()) for i in (0, 1))
        return before / count, after / count


def draw(path: Path, found: Difference, title: str, names: Sequence[str] = ()) -> Path:
    """Draw a difference: the relative change of every module, and each layer's norm and ranks.

    A module that only the new state adapts says "new"; one that only the old one did, "gone".

    Args:
        path: of the PNG.
        found: what was compared.
        title: which states.
        names: how people call them, in any script; those that no font here can write are left out.
    """
    from matplotlib.figure import Figure

    rows = _rows(found)
    columns = list(dict.fromkeys(name for row in rows for name in row.modules))
    columns.sort(key=_natural)
    width = MARGIN + COLUMN * max(2, len(columns)) + 3 * PANEL
    figure = Figure(figsize=(width, 2.2 + ROW * max(4, len(rows))), layout="constrained")
    ratios = (COLUMN * max(2, len(columns)), PANEL, PANEL, PANEL)
    heat, norms, cosines, ranks = figure.subplots(1, 4, sharey=True, width_ratios=ratios)
    _heat(figure, heat, rows, columns)
    _before_and_after(norms, [row.sums.norms for row in rows], "norm of the delta")
    _cosines(cosines, [row.sums.cosine for row in rows])
    _before_and_after(ranks, [row.effective for row in rows], "effective rank")
    norms.legend(*_legend(), loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=8)
    family = fonts.families()
    above = " · ".join([title, *(name for name in names if fonts.can_write(name))])
    figure.suptitle(above, fontsize=11, x=0.01, ha="left", family=family)
    return _save(figure, path)


def place(module: str) -> tuple[str, str]:
    """The layer of a module and its component, in few letters.

    >>> place("unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0")
    ('down.1.attn.0.block.0', 'attn1.to_out.0')
    >>> place("model.layers.3.self_attn.q_proj")
    ('layers.3', 'self_attn.q_proj')
    """
    match = LAYER.fullmatch(module)
    layer, component = match.groups() if match else (module.rpartition(".")[0], module)
    for pattern, short in SHORT:
        layer = re.sub(pattern, short, layer)
    return layer, component if match else component.rpartition(".")[2]


def _rows(found: Difference) -> list[Row]:
    """Layers in the order of the signal: by block, then by their numbers.

    A transformer block that is the only one of its attention shares a row with it.
    """
    blocks = [block.name for block in found.blocks]
    places = {layer.module: place(layer.module) for layer in found.layers}
    one_each = all(not FURTHER.search(name) for name, _ in places.values())
    rows: dict[tuple[int, str], dict[str, Layer]] = {}
    for layer in found.layers:
        name, component = places[layer.module]
        name = name.removesuffix(FIRST) if one_each else name
        rows.setdefault((blocks.index(layer.block), name), {})[component] = layer
    ordered = sorted(rows, key=lambda key: (key[0], _natural(key[1])))
    return [Row(key[1], rows[key]) for key in ordered]


def _natural(name: str) -> list[tuple[int, str]]:
    """layers.2 before layers.10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _heat(figure: Any, axes: Any, rows: Sequence[Row], columns: Sequence[str]) -> None:
    empty = float("nan")
    layers = [[row.modules.get(column) for column in columns] for row in rows]
    changes = [[_change(layer, empty) for layer in line] for line in layers]
    hottest = max((x for line in changes for x in line if x == x), default=0.0) or 1.0
    shown = changes or [[empty]]
    image = axes.imshow(shown, cmap=COLORS, vmin=0, vmax=hottest, aspect="auto")
    if len(rows) * len(columns) <= CELLS_WITH_WORDS:
        for number, line in enumerate(layers):
            for column, layer in enumerate(line):
                dark = changes[number][column] > 0.65 * hottest
                color = "white" if dark else "black"
                words = _words(layer)
                axes.text(column, number, words, ha="center", va="center", size=6, color=color)
    axes.set_yticks(range(len(rows)), [row.name for row in rows], size=7)
    axes.set_xticks(range(len(columns)), columns, size=7, rotation=60, ha="right")
    axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, location="top", shrink=0.6, aspect=30, pad=0.01)
    bar.ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    bar.ax.tick_params(labelsize=7)
    bar.set_label("change of the delta, |new - old| / |old|", size=8)


def _change(layer: Layer | None, empty: float) -> float:
    if layer is None or layer.sums.change is None or layer.where != "both":
        return empty
    return layer.sums.change


def _words(layer: Layer | None) -> str:
    if layer is None:
        return ""
    if layer.where != "both" or layer.sums.change is None:
        return "gone" if layer.where == "before" else "new"
    return f"{layer.sums.change:.0%}"


def _before_and_after(axes: Any, pairs: Sequence[tuple[float, float]], label: str) -> None:
    for number, (before, after) in enumerate(pairs):
        axes.plot([before, after], [number, number], color="#c9c9c9", linewidth=1.5, zorder=1)
        axes.plot(before, number, "o", markersize=5, color=BEFORE, fillstyle="none", zorder=2)
        axes.plot(after, number, "o", markersize=4, color=AFTER, zorder=3)
    axes.set_xlim(0, max((value for pair in pairs for value in pair), default=0.0) * 1.08 or 1)
    _settle(axes, label)


def _cosines(axes: Any, cosines: Sequence[float | None]) -> None:
    for number, cosine in enumerate(cosines):
        if cosine is not None:
            axes.plot([0, cosine], [number, number], color="#c9c9c9", linewidth=1.5, zorder=1)
            axes.plot(cosine, number, "o", markersize=4, color=AFTER, zorder=2)
    axes.axvline(0, color="#7f7f7f", linewidth=0.6)
    axes.set_xlim(min(-0.02, *(x for x in cosines if x is not None), 0) * 1.05, 1.05)
    _settle(axes, "cosine of old and new")


def _settle(axes: Any, label: str) -> None:
    axes.set_xlabel(label, size=8)
    axes.tick_params(axis="x", labelsize=7)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.3)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _legend() -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D

    before = Line2D([], [], color=BEFORE, marker="o", fillstyle="none", linestyle="")
    after = Line2D([], [], color=AFTER, marker="o", markersize=5, linestyle="")
    return [before, after], ["before", "after"]


def _save(figure: Any, path: Path) -> Path:
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from lorareg.registry.files import write_atomically

    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream)  # type: ignore[no-untyped-call]
    write_atomically(path, stream.getvalue())
    return path
