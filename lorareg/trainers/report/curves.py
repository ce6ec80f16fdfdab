"""The loss curve of a run as a picture."""

from __future__ import annotations

from pathlib import Path

from lorareg.trainers.report import metrics


def draw_loss(folder: Path, title: str) -> Path:
    """Draw ``loss.png`` from ``metrics.jsonl``: training loss, its running mean, validation."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = metrics.read(folder / "metrics.jsonl")
    train = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    held_out = [(row["step"], row["validation_loss"]) for row in rows if "validation_loss" in row]
    figure = Figure(figsize=(8, 4.5), dpi=100, layout="constrained")
    axes = figure.subplots()
    if train:
        steps, losses = zip(*train, strict=True)
        axes.plot(steps, losses, color="#b9c6dc", linewidth=0.8, label="training")
        axes.plot(steps, _running_mean(losses), color="#2f5597", label="training, mean of 25")
    if held_out:
        steps, losses = zip(*held_out, strict=True)
        axes.plot(steps, losses, color="#c55a11", marker="o", markersize=3, label="held out")
    axes.set(xlabel="optimizer step", ylabel="loss", title=title)
    axes.grid(alpha=0.3)
    if train or held_out:
        axes.legend()
    path = folder / "loss.png"
    FigureCanvasAgg(figure).print_png(path)  # type: ignore[no-untyped-call]
    return path


def _running_mean(values: tuple[float, ...], window: int = 25) -> list[float]:
    means, total = [], 0.0
    for index, value in enumerate(values):
        total += value - (values[index - window] if index >= window else 0.0)
        means.append(total / min(index + 1, window))
    return means
