from __future__ import annotations

from lorareg import errors
from lorareg.errors import InterruptedTrainingError, LoraregError, listed


def test_an_error_is_three_short_lines() -> None:
    error = LoraregError("character/x is gone", why="it was removed", fix="lorareg list")

    assert str(error) == "character/x is gone\nwhy: it was removed\nfix: lorareg list"


def test_an_error_without_cause_or_remedy_is_one_line() -> None:
    assert str(LoraregError("no")) == "no"


def test_every_error_ends_the_process_with_2_but_an_interrupted_run() -> None:
    tree = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, LoraregError)
    ]

    assert len(tree) > 5
    assert {k.exit_code for k in tree if k is not InterruptedTrainingError} == {2}
    assert InterruptedTrainingError.exit_code == 130


def test_the_tree_in_the_docstring_is_the_tree_in_the_code() -> None:
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, LoraregError):
            assert name in (errors.__doc__ or "")


def test_a_long_list_of_problems_says_how_many_were_left_out() -> None:
    assert listed([str(n) for n in range(25)]).endswith("- 19\n  ... and 5 more")
