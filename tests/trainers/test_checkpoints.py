"""Resume bundles: whole or not at all, and never trusted unread."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lorareg.registry.header import read_header
from lorareg.registry.training import Validation
from lorareg.trainers.core.checkpoints import Cursor, latest, save

BUNDLE = {
    "adapter": {"a/b.down": torch.arange(6.0).reshape(2, 3), "a/b.up": torch.zeros(3, 2)},
    "best": {},
    "optimizer": {"a/b.down/step": torch.tensor(3.0), "a/b.down/exp_avg": torch.ones(2, 3)},
}


def steps(folder: Path) -> list[int]:
    return [int(path.stem.removeprefix("step-")) for path in sorted(folder.glob("*.safetensors"))]


def file(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.safetensors"


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    cursor = Cursor(step=7, best_loss=0.1 + 0.2, best_step=5, base_loss=1.0, train_loss=1e-9)

    save(tmp_path, cursor, BUNDLE, keep=2)
    found = latest(tmp_path)

    assert found is not None
    assert found[0] == cursor
    assert found[1].keys() == {"adapter", "optimizer"}  # an empty group leaves nothing
    for group, values in found[1].items():
        assert values.keys() == BUNDLE[group].keys()
        assert all(torch.equal(value, BUNDLE[group][name]) for name, value in values.items())


def test_without_a_checkpoint_there_is_nothing_to_resume(tmp_path: Path) -> None:
    assert latest(tmp_path / "never") is None


def test_only_the_last_ones_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15, 20):
        save(tmp_path, Cursor(step=step), BUNDLE, keep=2)

    assert steps(tmp_path) == [15, 20]


@pytest.mark.parametrize("place", [2, 40, -1], ids=["length", "header", "values"])
def test_a_checkpoint_with_a_flipped_bit_is_passed_over(tmp_path: Path, place: int) -> None:
    save(tmp_path, Cursor(step=5), BUNDLE, keep=2)
    save(tmp_path, Cursor(step=10), BUNDLE, keep=2)
    flip(file(tmp_path, 10), place)

    found = latest(tmp_path)

    assert found is not None
    assert found[0].step == 5


def test_a_flipped_bit_of_the_cursor_is_noticed(tmp_path: Path) -> None:
    save(tmp_path, Cursor(step=5, best_loss=0.25), BUNDLE, keep=2)
    path = file(tmp_path, 5)
    path.write_bytes(path.read_bytes().replace(b"0.25", b"0.24"))

    assert "0.24" in read_header(path).metadata["state"]
    assert latest(tmp_path) is None


def test_a_checkpoint_that_was_cut_short_is_passed_over(tmp_path: Path) -> None:
    save(tmp_path, Cursor(step=5), BUNDLE, keep=2)
    file(tmp_path, 5).write_bytes(file(tmp_path, 5).read_bytes()[:-8])

    assert latest(tmp_path) is None


def test_a_damaged_checkpoint_does_not_push_out_a_whole_one(tmp_path: Path) -> None:
    for step in (10, 20):
        save(tmp_path, Cursor(step=step), BUNDLE, keep=2)
    flip(file(tmp_path, 20), -1)

    save(tmp_path, Cursor(step=15), BUNDLE, keep=2)

    assert steps(tmp_path) == [10, 15]


def test_a_half_written_checkpoint_is_not_seen(tmp_path: Path) -> None:
    save(tmp_path, Cursor(step=5), BUNDLE, keep=2)
    (tmp_path / ".step-00000010.safetensors.abcd.tmp").write_bytes(b"half")

    found = latest(tmp_path)

    assert found is not None
    assert found[0].step == 5


def test_the_first_validation_is_the_base_s() -> None:
    cursor = Cursor().validated(0.5, Validation())

    assert (cursor.base_loss, cursor.validation_loss) == (0.5, 0.5)
    assert cursor.best_loss is None


def test_the_best_is_the_lowest_loss_and_its_step() -> None:
    cursor = Cursor()
    for step, loss in enumerate((0.5, 0.4, 0.45, 0.3, 0.3)):
        cursor = advanced(cursor, step).validated(loss, Validation())

    assert (cursor.best_loss, cursor.best_step, cursor.bad_rounds) == (0.3, 3, 1)
    assert cursor.finished is None


def test_patience_counts_validations_without_a_gain_of_min_delta() -> None:
    rule = Validation(patience=2, min_delta=0.1)
    cursor = Cursor()
    ends = []
    for step, loss in enumerate((1.0, 0.8, 0.75, 0.6, 0.55, 0.51)):
        cursor = advanced(cursor, step).validated(loss, rule)
        ends.append(cursor.finished)

    assert ends == [None, None, None, None, None, "early"]
    assert (cursor.best_loss, cursor.best_step) == (0.6, 3)


def advanced(cursor: Cursor, step: int) -> Cursor:
    return replace(cursor, step=step)
