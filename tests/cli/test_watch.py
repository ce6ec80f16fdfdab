"""How a run looks: a live dashboard that fits any width, plain lines where there is no terminal."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from lorareg.cli.dashboard import Dashboard, Usage
from lorareg.cli.progress_table import ProgressTable, table
from lorareg.cli.watch import RunWatcher
from lorareg.trainers.core.watching import StepFacts
from lorareg.trainers.report import usage
from lorareg.trainers.report.standing import POINTS, Standing, sparkline
from lorareg.trainers.runs.many import Row

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
MEMORY = Usage(resident=1_930_000_000)


def facts(step: int, total: int = 100, unit: str = "image") -> StepFacts:
    return StepFacts(step, total, 1 / step, 1e-4, 0.132, 4, 0.5, unit)


def half_way(unit: str = "image") -> Standing:
    """Fifty of a hundred steps of half a second, validated twice."""
    standing = Standing().validated(0, 0.4, 0.4)
    for step in range(1, 51):
        standing = standing.stepped(facts(step, unit=unit), clock=100 + 0.6 * step)
    return standing.validated(25, 0.2, 0.4).validated(50, 0.3, 0.4)


def drawn(standing: Standing, width: int, memory: Usage = MEMORY) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None, soft_wrap=True)
    with console.capture() as capture:
        console.print(Dashboard("character/zhangsan", standing, lambda: memory))
    return capture.get().splitlines()


def screen(width: int = 80) -> Console:
    """A terminal that remembers what was written to it."""
    return Console(file=io.StringIO(), width=width, height=24, force_terminal=True, soft_wrap=True)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return CONTROL.sub("", console.file.getvalue())


def test_the_dashboard_says_everything_at_80_columns() -> None:
    text = "\n".join(drawn(half_way(), 80))

    assert "character/zhangsan  50/100" in text
    assert "50 %" in text
    assert re.search(r"loss +0\.0200 +█", text)
    assert "0.3000  best 0.2000 at step 25  base 0.4000 (-50.0 %)" in text
    assert "8 images/s  0.50 s/step" in text
    assert "1.00e-04  gradient norm 0.132" in text
    assert "1.9 GB" in text


def test_the_time_left_counts_what_happens_between_the_steps() -> None:
    # half a second a step, and a tenth for whatever comes between two of them
    left = half_way().seconds_left

    assert left == pytest.approx(0.6 * 50, rel=0.01)


def test_a_resumed_run_is_timed_from_where_it_goes_on() -> None:
    standing = Standing().stepped(facts(51), clock=10.0).stepped(facts(52), clock=12.0)

    assert standing.elapsed == pytest.approx(2.5)
    assert standing.seconds_left == pytest.approx(2.5 / 2 * 48)


@pytest.mark.parametrize(("unit", "said"), [("image", "8 images/s"), ("token", "8 tokens/s")])
def test_speed_is_told_in_the_units_of_the_task(unit: str, said: str) -> None:
    assert any(said in line for line in drawn(half_way(unit), 80))


def test_a_gpu_has_its_memory_told_beside_that_of_the_process() -> None:
    lines = drawn(half_way(), 80, Usage(1_000_000_000, (5_100_000_000, 24_000_000_000)))

    assert lines[-1].split(maxsplit=1)[1] == "1.0 GB  GPU 5.1 of 24.0 GB"


@pytest.mark.parametrize("width", [12, 20, 30, 40, 60, 79, 80, 81, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = drawn(half_way(), width)

    assert len(lines) == 7
    assert max(cell_len(line) for line in lines) <= width


def test_a_narrow_terminal_loses_the_last_facts_of_a_line_and_not_the_first() -> None:
    text = "\n".join(drawn(half_way(), 36))

    assert "50/100" in text
    assert "0.3000" in text
    assert "best" not in text


def test_the_curve_has_the_last_sixty_losses() -> None:
    standing = Standing()
    for step in range(1, 200):
        standing = standing.stepped(facts(step, 1000), clock=float(step))

    assert len(standing.losses) == POINTS
    assert sum(char in "▁▂▃▄▅▆▇█" for char in drawn(standing, 100)[1]) == POINTS


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60).map(tuple))
def test_a_curve_has_one_character_a_value_and_the_highest_where_the_highest_is(
    values: tuple[float, ...],
) -> None:
    line = sparkline(values)

    assert len(line) == len(values)
    if max(values) > min(values):
        assert line[values.index(max(values))] == "█"
        assert line[values.index(min(values))] == "▁"


def test_a_terminal_without_unicode_gets_a_curve_of_letters() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(file=file, width=80, color_system=None)

    console.print(Dashboard("x/y", half_way(), lambda: MEMORY))

    file.flush()
    assert isinstance(file.buffer, io.BytesIO)
    assert b"0.0200  " in file.buffer.getvalue()
    assert file.buffer.getvalue().isascii()


def test_a_terminal_shows_notes_above_and_the_last_frame_below() -> None:
    console = screen()

    with RunWatcher("character/zhangsan", console) as watcher:
        watcher.stage("encoding pictures", 3, 12)
        watcher.note("half-way there")  # draws what is below it
        watcher.validated(0, 0.4, 0.4)
        watcher.step(facts(1, 2))
        watcher.note("look at this")
        watcher.step(facts(2, 2))
        watcher.validated(2, 0.3, 0.4)

    text = written(console)
    last = text[text.rindex("character/zhangsan") :]
    assert "encoding pictures" in text
    assert text.index("look at this") < text.rindex("character/zhangsan")
    assert "2/2" in last
    assert "best 0.3000 at step 2" in last
    assert "encoding pictures" not in last


def test_the_next_training_of_a_tour_leaves_the_one_before_on_the_screen() -> None:
    console = screen()

    with RunWatcher("training", console) as watcher:
        watcher.step(facts(9, 9))
        watcher.headline("$ lorareg train style/ink")
        watcher.step(facts(1, 7))

    text = written(console)
    assert text.index("9/9") < text.index("$ lorareg train style/ink") < text.rindex("1/7")


def test_without_a_terminal_there_are_plain_lines_now_and_then() -> None:
    console = Console(file=io.StringIO(), width=80)

    with RunWatcher("character/zhangsan", console) as watcher:
        watcher.validated(0, 0.4, 0.4)
        for step in range(1, 101):
            watcher.step(facts(step))
        watcher.validated(100, 0.3, 0.4)

    lines = written(console).splitlines()
    assert lines[0] == "  step 0: held-out loss 0.4000"
    assert lines[1].startswith("  character/zhangsan: 1/100 loss 1.0000  lr 1.00e-04  8 images/s")
    assert lines[2].startswith("  character/zhangsan: 100/100")
    assert lines[3] == "  step 100: held-out loss 0.3000 (-25.0 % against the base)"
    assert len(lines) == 4


def test_memory_is_that_of_this_process() -> None:
    before = usage.resident()
    held = bytearray(b"x") * 50_000_000

    assert 40_000_000 < usage.resident() - before < 200_000_000
    assert len(held) == 50_000_000
    assert usage.on_device() is None


ROWS = [
    Row("character/zhangsan", "up to date"),
    Row("style/ink", "training", standing=half_way(), began=95.0),
    Row("style/a-name-of-the-length-that-is-allowed-at-most-" + "x" * 18, "starting", began=100.0),
    Row("tone/pirate", "failed", error={"what": "no", "why": "", "fix": ""}, began=90, ended=91.5),
]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_of_many_fits_the_terminal(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, color_system=None)

    console.print(table("adapter", ROWS, 130.0, width))

    lines = written(console).splitlines()
    assert max(cell_len(line.rstrip()) for line in lines) <= width
    assert len(lines) == 5
    assert re.search(r"style/ink +training +50/100 +0\.0200 +0\.2000 +0:00:35", lines[2])
    assert ("█" in lines[2]) == (width >= 100)


def test_without_a_terminal_the_table_tells_what_changed_and_passes_notes_on() -> None:
    console = Console(file=io.StringIO(), width=200)

    with ProgressTable("adapter", console) as show:
        show([Row("a/b"), Row("c/d")])
        show([Row("a/b", "starting", began=1.0, notes=("cpu, float32",)), Row("c/d")])
        show([Row("a/b", "starting", began=1.0, notes=("cpu, float32",)), Row("c/d")])
        show([Row("a/b", "done", began=1.0, ended=62.0), Row("c/d")])

    lines = written(console).splitlines()
    assert [re.split(r"  \d+:", line)[0] for line in lines] == [
        "  a/b: cpu, float32",
        "  a/b: starting",
        "  a/b: done",
    ]
    assert lines[-1].endswith("0:01:01")
