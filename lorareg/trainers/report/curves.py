"""The curves of a run, and of the runs of a sweep, as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lorareg.trainers.report import metrics

TRAINING, MEAN, HELD_OUT, RATE = "#b9c6dc", "#2f5597", "#c55a11", "#7f7f7f"


def draw_loss(folder: Path, title: str) -> Path:
    """Draw ``loss.png`` from ``metrics.jsonl``: losses with the best step, learning rate below."""
    rows = metrics.read(folder / "metrics.jsonl")
    figure = _figure()
    axes, below = figure.subplots(2, sharex=True, height_ratios=(4, 1))
    _draw_training(axes, _points(rows, "loss"))
    _draw_held_out(axes, _points(rows, "validation_loss"))
    axes.set(ylabel="loss", title=title)
    _draw(below, _points(rows, "learning_rate"), color=RATE)
    below.set(xlabel="optimizer step", ylabel="rate")
    below.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    for panel in (axes, below):
        panel.grid(alpha=0.3)
    if rows:
        axes.legend()
    return _save(figure, folder / "loss.png")


def draw_sweep(path: Path, title: str, runs: Mapping[str, Path]) -> Path:
    """Draw the held-out loss of every variant of a sweep, its best step marked.

    Args:
        path: of the PNG.
        title: above it.
        runs: label of a variant -> folder of its run, the best first.
    """
    figure = _figure()
    axes = figure.subplots()
    for label, folder in runs.items():
        points = _points(metrics.read(folder / "metrics.jsonl"), "validation_loss")
        _draw(axes, points, marker=".", label=label)
        if points:
            axes.plot(*_best(points), marker="*", markersize=11, color=axes.lines[-1].get_color())
    axes.set(xlabel="optimizer step", ylabel="held-out loss", title=title)
    axes.grid(alpha=0.3)
    if runs:
        axes.legend(fontsize="small")
    return _save(figure, path)


def _draw_training(axes: Any, points: Sequence[tuple[int, float]]) -> None:
    _draw(axes, points, color=TRAINING, linewidth=0.8, label="training")
    means = _running_mean([loss for _, loss in points])
    smooth = [(step, mean) for (step, _), mean in zip(points, means, strict=True)]
    _draw(axes, smooth, color=MEAN, label="training, mean of 25")


def _draw_held_out(axes: Any, points: Sequence[tuple[int, float]]) -> None:
    _draw(axes, points, color=HELD_OUT, marker="o", markersize=3, label="held out")
    if points:
        step, loss = _best(points)
        words = f"best, {loss:.4f} at step {step}"
        axes.plot(step, loss, color=HELD_OUT, marker="*", markersize=13, ls="", label=words)


def _draw(axes: Any, points: Sequence[tuple[int, float]], **style: Any) -> None:
    if points:
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, **style)


def _points(rows: Sequence[Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    return [(row["step"], row[key]) for row in rows if key in row]


def _best(points: Sequence[tuple[int, float]]) -> tuple[int, float]:
    """The lowest loss of the adapter; step 0 is the base, unless there is nothing else."""
    return min(points[1:] or points, key=lambda point: point[1])


def _running_mean(values: Sequence[float], window: int = 25) -> list[float]:
    means, total = [], 0.0
    for index, value in enumerate(values):
        total += value - (values[index - window] if index >= window else 0.0)
        means.append(total / min(index + 1, window))
    return means


def _figure() -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(8, 4.5), dpi=100, layout="constrained")


def _save(figure: Any, path: Path) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).print_png(path)  # type: ignore[no-untyped-call]
    return path
