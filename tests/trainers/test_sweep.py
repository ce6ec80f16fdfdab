"""How variants are named, ordered and compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lorareg.cli.values import axes
from lorareg.errors import LoraregError
from lorareg.registry import lock
from lorareg.registry.yamlfile import scalar
from lorareg.trainers.report.curves import draw_sweep
from lorareg.trainers.runs import sweep
from lorareg.trainers.runs.sweep import RESULT, Variant, VariantResult

PRINT = f"fingerprint-sha256-v1:{'0' * 64}"


def result(loss: float | None, base: float | None = 1.0, **values: Any) -> VariantResult:
    return VariantResult(
        asset="style/ink",
        values=values,
        fingerprint=PRINT,
        config={"lora": values},
        environment=lock.Environment(
            python="3.11.0", packages={}, platform="linux", device="cpu", precision="fp32",
            threads=1, commit=None, dirty=False,
        ),
        result=lock.Result(
            steps=12, best_step=8, train_loss=0.5, base_validation_loss=base, validation_loss=loss,
            seconds=3.0, rank=4, alpha=4, modules=2, stopped="finished", held_out=1,
        ),
        bytes=1000,
    )  # fmt: skip


def test_the_lowest_held_out_loss_is_the_best() -> None:
    found = sweep.ranked([result(0.9, rank=4), result(0.7, rank=8), result(0.8, rank=16)])

    assert [one.values["rank"] for one in found] == [8, 16, 4]


def test_where_the_base_is_measured_otherwise_the_change_against_it_counts() -> None:
    """Another seed holds out other records, which may be easier for base and adapter alike."""
    easy, hard = result(0.5, base=0.52, seed=1), result(0.9, base=1.2, seed=2)

    assert not sweep.measured_alike([easy, hard])
    assert sweep.ranked([easy, hard]) == [hard, easy]


def test_rounding_is_no_other_measure() -> None:
    assert sweep.measured_alike([result(0.9, base=1.0), result(0.8, base=1.0002)])


def test_a_result_comes_back_from_its_file_and_only_for_its_own_run(tmp_path: Path) -> None:
    variant = Variant({"rank": 4}, PRINT, tmp_path)
    assert variant.finished() is None

    lock.save(tmp_path / RESULT, result(0.9, rank=4))

    assert variant.finished() == result(0.9, rank=4)
    assert Variant({}, PRINT.replace("0", "1"), tmp_path).finished() is None


def test_a_run_of_an_earlier_sweep_is_shown_by_the_keys_of_this_one(tmp_path: Path) -> None:
    lock.save(tmp_path / RESULT, result(0.9, rate=1e-3))

    found = Variant({"rank": 4}, PRINT, tmp_path).finished()

    assert found is not None
    assert found.values == {"rank": 4}
    assert found.result.validation_loss == 0.9


def test_half_a_result_is_named_with_the_command_that_removes_it(tmp_path: Path) -> None:
    (tmp_path / RESULT).write_text('{"asset": "style/ink"}')

    with pytest.raises(LoraregError) as caught:
        Variant({}, PRINT, tmp_path).finished()

    assert caught.value.fix == f"rm {tmp_path / RESULT}"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("lora.rank=4,8,16", [4, 8, 16]),
        ("train.learning_rate=1e-4, 3e-4", [1e-4, 3e-4]),
        ("lora.use_dora=true,false", [True, False]),
        ("lora.targets=attention,[to_q, to_k]", ["attention", ["to_q", "to_k"]]),
        ("train.min_snr_gamma=null,5", [None, 5]),
        ("lora.rank=4,4,8", [4, 8]),
    ],
)
def test_values_are_read_as_those_of_set_are(text: str, values: list[Any]) -> None:
    assert list(axes([text]).values()) == [values]


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (["lora.rank"], "is not KEY=VALUE"),
        (["lora.rank="], "has no values"),
        (["lora.rank=4", "lora.rank=8"], "is given twice"),
        (["lora.rank=[4"], "is not a YAML value"),
        (["dataset.waiver.by=alice,bob"], "is refused"),
        (["dataset.contains_personal_data=true,false"], "is refused"),
    ],
)
def test_a_wrong_sweep_is_refused(pairs: list[str], words: str) -> None:
    with pytest.raises(LoraregError, match=words):
        axes(pairs)


SCALARS = st.none() | st.booleans() | st.integers(-99, 99) | st.sampled_from([0.5, 1e-4, 2.5e-05])


@given(st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.sampled_from(["attention", "cosine"])))
def test_a_value_is_shown_as_it_can_be_typed(value: Any) -> None:
    assert scalar(sweep.shown(value)) == value


@pytest.mark.filterwarnings("error")
def test_the_plot_has_a_curve_a_variant(tmp_path: Path) -> None:
    folders = {}
    for name, low in (("lora.rank=4", 0.5), ("lora.rank=8", 0.3)):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        rows = [f'{{"step": {n}, "validation_loss": {low + 1 / (n + 1)}}}\n' for n in range(9)]
        (folders[name] / "metrics.jsonl").write_text("".join(rows))

    full = draw_sweep(tmp_path / "sweep.png", "style/ink", folders).read_bytes()
    empty = draw_sweep(tmp_path / "empty.png", "style/ink", {}).read_bytes()

    assert full != empty
    with Image.open(tmp_path / "sweep.png") as picture:
        assert picture.size == (800, 450)
