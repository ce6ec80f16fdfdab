"""What a budget buys: ranks, energy and bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorareg.errors import LoraregError
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.formats import diffusers, peft
from lorareg.weights.lowrank import Budget, compress, errors_by_rank
from tests.weights.drawn import MODULES, PARTS, Part, of_all_modules, squares, strengthened

Truncate = Literal["optimal", "fair"]
TRUNCATE = st.sampled_from(["optimal", "fair"])


@given(PARTS, st.floats(0.05, 0.999), TRUNCATE)
def test_an_energy_target_is_reached(parts: list[Part], energy: float, truncate: Truncate) -> None:
    found = compress(strengthened(parts), Budget(energy=energy, truncate=truncate))

    assert found.energy >= energy - 1e-9


@pytest.mark.parametrize("energy", [0.3, 0.5, 0.7, 0.9])
def test_what_is_left_out_holds_less_per_byte_than_what_is_kept(energy: float) -> None:
    parts = of_all_modules([(2, 1.0), (1, 1.0)])

    found = compress(parts, Budget(energy=energy))

    cost = {name: out + int(np.prod(down)) for name, (out, down) in MODULES.items()}
    values = squares([(part, 1.0) for part in parts])
    kept = [values[n][k - 1] / cost[n] for n, k in found.ranks.items() if k]
    left = [values[n][k] / cost[n] for n, k in found.ranks.items() if k < 3]
    assert max(left) <= min(kept)


def test_one_direction_less_would_miss_the_energy_target() -> None:
    parts = of_all_modules([(8, 1.0), (4, 1.0)])

    found = compress(parts, Budget(energy=0.7))

    values = squares([(part, 1.0) for part in parts])
    whole = sum(sum(v) for v in values.values())
    last = min(
        (values[n][k - 1] / (MODULES[n][0] + np.prod(MODULES[n][1])), values[n][k - 1])
        for n, k in found.ranks.items()
        if k
    )[1]
    assert found.energy - last / whole < 0.7 <= found.energy


@pytest.mark.parametrize("room", [6000, 6400, 7000, 8000, 20000])
@pytest.mark.parametrize("truncate", ["optimal", "fair"])
def test_a_file_is_never_larger_than_its_budget(
    tmp_path: Path, room: int, truncate: Truncate
) -> None:
    parts = of_all_modules([(8, 1.0), (4, 3.0), (2, 0.3)])

    found = compress(parts, Budget(max_size=room, truncate=truncate))

    prefixed = LoraAdapter({f"unet.{n}": x for n, x in found.adapter.layers.items()})
    diffusers.write(tmp_path / "a.safetensors", prefixed, {"lorareg.fingerprint": "f" * 64})
    assert (tmp_path / "a.safetensors").stat().st_size <= room
    peft.write(tmp_path, found.adapter, "base", {})
    assert (tmp_path / peft.WEIGHTS).stat().st_size <= room


def test_a_larger_budget_loses_less() -> None:
    parts = of_all_modules([(8, 1.0), (4, 3.0)])

    errors = [compress(parts, Budget(max_size=n)).error for n in (6100, 6300, 6700, 7500, 9000)]

    assert errors == sorted(errors, reverse=True)
    assert len(set(errors)) > 3


@given(PARTS, st.integers(1, 6), TRUNCATE)
def test_a_rank_gives_the_canonical_form(parts: list[Part], rank: int, truncate: Truncate) -> None:
    found = compress(strengthened(parts), Budget(rank=rank, truncate=truncate))

    layers = found.adapter.layers.values()
    assert len({layer.rank for layer in layers}) == 1
    assert {layer.scale for layer in layers} == {1.0}
    assert found.adapter.rank == max(found.ranks.values()) <= rank
    for name, layer in found.adapter.layers.items():
        out, down = MODULES[name]
        assert layer.down.shape[1:] == down
        assert layer.up.shape[0] == out


@given(PARTS, st.floats(0.1, 1))
def test_other_budgets_give_each_module_its_own_rank_and_alpha(
    parts: list[Part], energy: float
) -> None:
    found = compress(strengthened(parts), Budget(energy=energy))

    assert {n: k for n, k in found.ranks.items() if k} == {
        name: layer.rank for name, layer in found.adapter.layers.items()
    }
    assert {layer.scale for layer in found.adapter.layers.values()} == {1.0}


@given(PARTS)
def test_the_curve_says_the_error_of_every_rank(parts: list[Part]) -> None:
    strong = strengthened(parts)

    curve = errors_by_rank(strong)

    assert [rank for rank, _, _ in curve] == list(range(1, len(curve) + 1))
    for rank, error, _ in curve:
        found = compress(strong, Budget(rank=rank))
        assert found.error == pytest.approx(error, abs=1e-12)
        assert found.adapter.rank == rank


def test_the_curve_says_how_large_a_file_can_get(tmp_path: Path) -> None:
    parts = of_all_modules([(3, 1.0), (4, 3.0)])

    for rank, _, most in errors_by_rank(parts):
        found = compress(parts, Budget(rank=rank))
        peft.write(tmp_path, found.adapter, "base", {})
        assert (tmp_path / peft.WEIGHTS).stat().st_size <= most


@pytest.mark.parametrize(
    "given_", [{}, {"rank": 2, "energy": 0.5}, {"rank": 1, "energy": 0.5, "max_size": 9}]
)
def test_a_budget_is_one_number(given_: dict[str, float]) -> None:
    with pytest.raises(LoraregError, match="one of rank, energy and max_size"):
        Budget(**given_)  # type: ignore[arg-type]


def test_a_size_without_room_for_one_module_names_one_that_has() -> None:
    parts = of_all_modules([(3, 1.0)])

    with pytest.raises(LoraregError, match="max_size 100 has no room") as caught:
        compress(parts, Budget(max_size=100))

    enough = int(caught.value.fix.split()[1])
    assert compress(parts, Budget(max_size=enough)).adapter.layers
