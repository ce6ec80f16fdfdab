"""What ``lorareg compose EXPR`` builds, and what it refuses to build."""

from __future__ import annotations

import pytest

from tests.flows.conftest import lorareg
from tests.flows.recipes.conftest import Run
from tests.flows.recipes.shelved import (
    EXPR,
    FILE,
    GLOW,
    INK,
    ZHANGSAN,
    differs,
    edit,
    lock,
    recipe,
)
from tests.weights.composed import Shelf
from tests.weights.planted import SMALL, sharing


def test_an_exact_file_is_the_weighted_sum_and_verifies(shelf: Shelf, run: Run) -> None:
    run("compose", EXPR, "--as", "hero", "--output", "exact")

    assert differs(shelf, "hero", (INK, 0.7), (ZHANGSAN, 0.9)) < 1e-6
    assert "FAIL" not in run("compose", "verify", "hero").out


def test_a_weight_left_out_is_the_recommended_one_and_is_written_out(
    shelf: Shelf, run: Run
) -> None:
    run("compose", "style/ink+character/zhangsan", "--as", "hero", "--output", "exact")

    assert [m["weight"] for m in lock(shelf, "hero")["members"]] == [0.8, 1.0]
    assert differs(shelf, "hero", (INK, 0.8), (ZHANGSAN, 1.0)) < 1e-6


def test_a_dry_run_writes_nothing_and_refuses_what_would_be_refused(shelf: Shelf, run: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in shelf.root.glob("manifests/**/*")}

    answer = run("compose", EXPR, "--as", "hero", "--output", "exact", "--dry-run")

    assert "nothing was written" in answer.err
    after = {path: path.stat().st_mtime_ns for path in shelf.root.glob("manifests/**/*")}
    assert after == before
    taken = lorareg(shelf.root, "compose", EXPR, "--as", "ink", "--dry-run")
    assert taken.code == 2
    assert "is the name of style/ink" in taken.err


def test_no_recipe_takes_the_name_of_an_adapter_even_when_it_may_overwrite(shelf: Shelf) -> None:
    answer = lorareg(shelf.root, "compose", EXPR, "--as", "ink", "--overwrite")

    assert answer.code == 2
    assert "ambiguous" in answer.err


def test_recipes_nest_and_their_weights_multiply(shelf: Shelf, run: Run) -> None:
    run("compose", EXPR, "--as", "inner")

    run("compose", "recipe/inner:0.5+style/glow:-0.4", "--as", "outer", "--output", "exact")

    wanted = (INK, 0.35), (ZHANGSAN, 0.45), (GLOW, -0.4)
    assert differs(shelf, "outer", *wanted) < 1e-6
    assert "recipe/inner" in (recipe(shelf, "outer") / "manifest.yaml").read_text()
    pins = [member["ref"] for member in lock(shelf, "outer")["members"]]
    assert pins == ["style/ink", "character/zhangsan", "style/glow"]


def test_weights_of_an_adapter_that_is_named_twice_add_up(shelf: Shelf, run: Run) -> None:
    run("compose", EXPR, "--as", "inner")

    run("compose", "recipe/inner+style/ink:0.2", "--as", "outer", "--output", "exact")

    assert differs(shelf, "outer", (INK, 0.9), (ZHANGSAN, 0.9)) < 1e-6


def test_a_recipe_that_contains_itself_is_refused_with_the_way_round(
    shelf: Shelf, run: Run
) -> None:
    run("compose", EXPR, "--as", "inner")
    run("compose", "recipe/inner:0.5+style/glow", "--as", "outer")
    edit(shelf, "recipe/inner", "style/ink", "recipe/outer")

    answer = lorareg(shelf.root, "compose", "recipe/outer:0.5+style/glow")

    assert answer.code == 2
    assert "recipe/outer > recipe/inner > recipe/outer" in answer.err
    verdict = lorareg(shelf.root, "compose", "verify", "recipe/inner")
    assert verdict.code == 1
    assert "contains itself" in verdict.out


def test_a_recipe_is_not_replaced_by_one_that_contains_it(shelf: Shelf, run: Run) -> None:
    run("compose", EXPR, "--as", "hero")
    before = lock(shelf, "hero")

    answer = lorareg(
        shelf.root, "compose", "recipe/hero:0.5+style/glow", "--as", "hero", "--overwrite"
    )

    assert answer.code == 2
    assert "recipe/hero > recipe/hero" in answer.err
    assert lock(shelf, "hero") == before


def test_a_recipe_alone_is_built_as_its_manifest_has_it(shelf: Shelf, run: Run) -> None:
    run("compose", EXPR, "--as", "hero", "--method", "ties", "--keep", "0.5")
    direct = run("compose", EXPR, "--as", "same", "--method", "ties", "--keep", "0.5", "--output",
                 "merged", "--json").json  # fmt: skip

    built = run("compose", "recipe/hero", "--output", "merged", "--json").json

    assert built["recipe"] == "recipe/hero"
    assert built["lock"]["fingerprint"] == direct["lock"]["fingerprint"]
    tensors = [each["lock"]["outputs"][FILE]["tensors"] for each in (built, direct)]
    assert tensors[0] == tensors[1]


def test_a_recipe_with_a_method_of_its_own_is_no_part_of_another(shelf: Shelf, run: Run) -> None:
    run("compose", EXPR, "--as", "hero", "--method", "tsv")

    answer = lorareg(shelf.root, "compose", "recipe/hero:0.5+style/glow")

    assert answer.code == 2
    assert "recipe/hero cannot be a part of something else" in answer.err


@pytest.mark.parametrize(
    "method",
    [
        ("ties", "--keep", "0.4"), ("tsv",), ("dare", "--keep", "0.5"),
        ("np", "--protect", "haze", "--mu", "0.5"),
    ],
)  # fmt: skip
def test_a_method_gives_a_file_that_verifies_and_is_not_the_plain_sum(
    shelf: Shelf, run: Run, method: tuple[str, ...]
) -> None:
    # parts that overlap, so that every method has something to part
    twins = sharing(SMALL, [4, 4], 0.5)
    for name, adapter in zip(("style/wash", "character/haze"), twins, strict=True):
        shelf.add(name, adapter)

    run("compose", "style/wash+character/haze", "--as", "hero", "--method", *method, "--output",
        "merged")  # fmt: skip

    run("compose", "verify", "recipe/hero")
    assert differs(shelf, "hero", *((twin, 1.0) for twin in twins)) > 0.05


def test_mu_zero_is_said_and_gives_the_plain_sum(shelf: Shelf, run: Run) -> None:
    run("compose", EXPR, "--as", "hero", "--method", "np", "--protect", "style/ink", "--mu", "0",
        "--output", "merged")  # fmt: skip

    assert differs(shelf, "hero", (INK, 0.7), (ZHANGSAN, 0.9)) < 1e-5


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--output", "exact", "--method", "ties"), "is not exact"),
        (("--output", "exact", "--rank", "4"), "does not compress"),
        (("--output", "compressed"), "needs one of --rank"),
        (("--rank", "4"), "does not compress"),
        (("--mu", "0.3"), "--mu does nothing here"),
        (("--method", "tsv", "--keep", "0.3"), "--keep does nothing here"),
        (("--every", "3"), "--every does nothing here"),
        (("--truncate", "fair"), "--truncate does nothing here"),
        (("--method", "ties", "--mode", "switch"), "exclude each other"),
        (("--output", "compressed", "--rank", "4", "--energy", "0.9"), "one of"),
        (("--output", "compressed", "--energy", "0"), "energy"),
        (("--method", "np", "--output", "merged"), "one of them protected"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    shelf: Shelf, options: tuple[str, ...], says: str
) -> None:
    answer = lorareg(shelf.root, "compose", EXPR, "--as", "hero", *options)

    assert answer.code == 2, answer.out
    assert says in answer.err
    assert not recipe(shelf, "hero").exists()
