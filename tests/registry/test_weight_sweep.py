"""Expressions whose weights are swept: which cells they stand for, and what they are not."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorareg.errors import LoraregError
from lorareg.registry.expression import MAX_CELLS, Expression, expand

ends = st.integers(-1000, 1000).map(lambda number: number / 100)


def test_an_expression_without_a_sweep_is_one_cell() -> None:
    text = "style/ink:0.7{te=0.5}+character/zhangsan"

    sweep = expand(text)

    assert sweep.axes == ()
    assert sweep.cells == (Expression.parse(text),)


def test_a_swept_part_keeps_its_braces_and_the_others_stay_as_they_are() -> None:
    sweep = expand("style/ink : 0.4 .. 1.0 / 4 {te=0.5} + character/zhangsan:0.9")

    assert [str(cell) for cell in sweep.cells] == [
        f"style/ink:{weight}{{te=0.5}}+character/zhangsan:0.9" for weight in (0.4, 0.6, 0.8, 1.0)
    ]


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.tuples(ends, ends), st.tuples(ends, ends), st.integers(2, 8), st.integers(2, 8))
def test_two_sweeps_make_a_grid_whose_ends_are_exact(
    ink: tuple[float, float], face: tuple[float, float], rows: int, columns: int
) -> None:
    if ink[0] == ink[1] or face[0] == face[1]:
        return

    sweep = expand(f"a/ink:{ink[0]!r}..{ink[1]!r}/{rows}+b/face:{face[0]!r}..{face[1]!r}/{columns}")

    first, second = sweep.axes
    assert (len(first.weights), len(second.weights)) == (rows, columns)
    assert (first.weights[0], first.weights[-1]) == ink
    assert (second.weights[0], second.weights[-1]) == face
    assert sorted(first.weights, reverse=ink[0] > ink[1]) == list(first.weights)
    found = [tuple(part.weight for part in cell.parts) for cell in sweep.cells]
    assert found == list(itertools.product(first.weights, second.weights))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a/x:0..1/1", "is no sweep"),
        ("a/x:0..1/", "is no sweep"),
        ("a/x:0..1/-3", "is no sweep"),
        ("a/x:0.5..0.5/3", "is no sweep"),
        ("a/x:0..high/3", "is no weight"),
        ("a/x:0..101/3", "is no weight"),
        ("a/x:0..1", "is no weight"),
        ("a/x{te=0..1/3}", "is no weight"),
        (f"a/x:0..1/{MAX_CELLS + 1}", "is no sweep"),
        ("a/x:0..1/9+b/y:0..1/8", "72 cells"),
        ("a/x:0..1/2+b/y:0..1/2+c/z:0..1/2", "sweeps 3 weights"),
    ],
)
def test_what_is_no_sweep_is_refused_with_the_right_form(text: str, said: str) -> None:
    with pytest.raises(LoraregError) as refused:
        expand(text)

    assert said in refused.value.what
    assert refused.value.fix.startswith("write it as style/ink")
