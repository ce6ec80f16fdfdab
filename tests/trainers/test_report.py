"""What a run leaves for people: metrics without gaps, a curve, a grid."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from lorareg.trainers.report import metrics
from lorareg.trainers.report.curves import draw_loss
from lorareg.trainers.report.grid import MARGIN, MIN_CELL, save_grid
from lorareg.trainers.report.metrics import MetricsLog


def write(folder: Path, start: int, steps: range) -> None:
    log = MetricsLog(folder, start)
    for step in steps:
        log.write(step, {"loss": 1 / (step + 1)})
    log.close()


def steps(folder: Path) -> list[int]:
    return [row["step"] for row in metrics.read(folder / "metrics.jsonl")]


def test_every_line_is_json_with_a_step(tmp_path: Path) -> None:
    write(tmp_path, 0, range(3))

    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()

    assert [json.loads(line) for line in lines] == [
        {"step": 0, "loss": 1.0},
        {"step": 1, "loss": 0.5},
        {"step": 2, "loss": 1 / 3},
    ]


def test_a_resumed_run_drops_what_it_will_write_again(tmp_path: Path) -> None:
    write(tmp_path, 0, range(8))

    write(tmp_path, 5, range(6, 10))

    assert steps(tmp_path) == list(range(10))


def test_a_run_that_begins_anew_drops_everything(tmp_path: Path) -> None:
    write(tmp_path, 0, range(8))

    write(tmp_path, 0, range(2))

    assert steps(tmp_path) == [0, 1]


@pytest.mark.parametrize("half", ['{"step": 3, "lo', '{"loss": 1}', "[3]", '{"step": null}'])
def test_half_a_line_is_no_line(tmp_path: Path, half: str) -> None:
    write(tmp_path, 0, range(3))
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write(half)

    assert steps(tmp_path) == [0, 1, 2]
    write(tmp_path, 2, range(3, 5))
    assert steps(tmp_path) == [0, 1, 2, 3, 4]


def test_lines_are_on_disk_as_soon_as_they_are_written(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, 0)

    log.write(1, {"loss": 0.5})

    assert steps(tmp_path) == [1]
    log.close()


def test_tensorboard_shows_each_step_of_the_last_attempt_once(tmp_path: Path) -> None:
    write(tmp_path, 0, range(8))
    write(tmp_path, 5, range(6, 10))

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("loss")

    assert [event.step for event in events] == list(range(10))


def test_tensorboard_forgets_a_run_that_begins_anew(tmp_path: Path) -> None:
    write(tmp_path, 0, range(8))
    write(tmp_path, 0, range(2))

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("loss")

    assert [event.step for event in events] == [0, 1]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "rows",
    [
        [{"step": n, "loss": 1 / (n + 1)} for n in range(60)] + [{"step": 9, "validation_loss": 1}],
        [{"step": 0, "validation_loss": 1.0}],
        [],
    ],
    ids=["both", "held out only", "nothing"],
)
def test_the_curve_is_a_picture_of_the_usual_size(
    tmp_path: Path, rows: list[dict[str, float]]
) -> None:
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    path = draw_loss(tmp_path, "character/zhangsan")

    with Image.open(path) as image:
        assert (path.name, image.format, image.size) == ("loss.png", "PNG", (800, 450))


def test_a_grid_has_a_cell_for_every_picture(tmp_path: Path) -> None:
    colors = [["red", "lime"], ["blue", "white"], ["black", "yellow"]]
    rows = [
        (f"row {number}", [Image.new("RGB", (160, 160), color) for color in row])
        for number, row in enumerate(colors)
    ]

    save_grid(tmp_path / "deep" / "grid.png", rows, ["one", "two"])

    with Image.open(tmp_path / "deep" / "grid.png") as sheet:
        cell = 160 + MARGIN
        left, top = sheet.width - 2 * cell, sheet.height - 3 * cell
        found = [
            [sheet.getpixel((left + x * cell + 80, top + y * cell + 80)) for x in range(2)]
            for y in range(3)
        ]
    expected = [[Image.new("RGB", (1, 1), c).getpixel((0, 0)) for c in row] for row in colors]
    assert found == expected
    assert 0 < left < 100
    assert 17 <= top < 40


def test_small_pictures_are_enlarged_without_smoothing(tmp_path: Path) -> None:
    checks = np.indices((32, 32)).sum(0) % 2 * 255
    picture = Image.fromarray(checks.astype(np.uint8)).convert("RGB")

    save_grid(tmp_path / "grid.png", [("x", [picture])], ["y"])

    with Image.open(tmp_path / "grid.png") as sheet:
        side = MIN_CELL
        box = (sheet.width - side - MARGIN, sheet.height - side - MARGIN)
        cut = np.asarray(sheet.crop((*box, box[0] + side, box[1] + side)))
    assert cut.shape == (128, 128, 3)
    assert set(np.unique(cut)) == {0, 255}


def test_a_long_label_is_wrapped_above_its_column(tmp_path: Path) -> None:
    picture = Image.new("RGB", (128, 128), "red")
    heights = []
    for head in ("short", "a portrait of a person with a very long list of things in it " * 3):
        save_grid(tmp_path / "grid.png", [("x", [picture])], [head])
        with Image.open(tmp_path / "grid.png") as sheet:
            heights.append(sheet.size)

    assert heights[0][0] == heights[1][0]
    assert heights[1][1] > heights[0][1] + 100


def test_labels_may_be_in_any_script(tmp_path: Path) -> None:
    save_grid(tmp_path / "grid.png", [("张三", [Image.new("RGB", (128, 128))])], ["一只黑色的小狗"])

    with Image.open(tmp_path / "grid.png") as sheet:
        assert sheet.format == "PNG"
