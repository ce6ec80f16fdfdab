"""A WD14-class tagger whose confidences are a known function of the picture's mean colour."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# name, category, weights of blue, green and red (of the mean, 0 to 255), bias
TAGS = (
    ("rating_safe", "9", (0.0, 0.0, 0.0), 9.0),
    ("red_coat", "0", (-0.04, -0.04, 0.08), -4.0),
    ("blue_sky", "0", (0.08, -0.04, -0.04), -4.0),
    (">_<", "0", (-0.04, 0.08, -0.04), -4.0),
    ("bright_(light)", "0", (0.0, 0.0, 0.0), 0.0),
    ("hatsune_miku", "4", (0.08, -0.04, -0.04), -8.0),
)
SIDE = 16


def confidences(blue: float, green: float, red: float) -> list[float]:
    """What the model says of a mean colour."""
    weights = np.array([tag[2] for tag in TAGS])
    scores = weights @ np.array([blue, green, red]) + np.array([tag[3] for tag in TAGS])
    return [float(value) for value in 1 / (1 + np.exp(-scores))]


def make_tagger(folder: Path, batch: int | str = "batch", channels: int = 3) -> Path:
    """Write ``model.onnx`` and ``selected_tags.csv``."""
    folder.mkdir(parents=True)
    weights = np.array([tag[2] for tag in TAGS], np.float32).T[: channels or 3]
    biases = np.array([tag[3] for tag in TAGS], np.float32)
    pixels = helper.make_tensor_value_info(
        "input", TensorProto.FLOAT, [batch, SIDE, SIDE, channels]
    )
    sure = helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, len(TAGS)])
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["input", "sides"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "weights"], ["weighed"]),
            helper.make_node("Add", ["weighed", "biases"], ["scores"]),
            helper.make_node("Sigmoid", ["scores"], ["output"]),
        ],
        "tagger",
        [pixels],
        [sure],
        [
            numpy_helper.from_array(np.array([1, 2], np.int64), "sides"),
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(biases, "biases"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(folder / "model.onnx"))
    write_tags(folder, [(name, category) for name, category, *_ in TAGS])
    return folder


def write_tags(folder: Path, tags: list[tuple[str, str]]) -> None:
    """Write the table of outputs, with the columns of the published ones."""
    with (folder / "selected_tags.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["tag_id", "name", "category", "count"])
        table.writerows([number, *tag, 100] for number, tag in enumerate(tags))
