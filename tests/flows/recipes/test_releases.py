"""Releases in a composition, what upgrading changes, and recipes that people edit."""

from __future__ import annotations

import shutil

import pytest

from lorareg.registry.workspace import Workspace
from lorareg.weights.adapter import LoraAdapter
from tests.flows.conftest import git, lorareg
from tests.flows.recipes.conftest import Run
from tests.flows.recipes.shelved import (
    EXPR,
    FILE,
    GLOW,
    INK,
    ZHANGSAN,
    commit,
    differs,
    edit,
    lock,
    recipe,
)
from tests.weights.composed import Shelf
from tests.weights.planted import SMALL, sharing

SECOND, THIRD = sharing(SMALL, [4, 8], 0.0, seed=2)


def release(shelf: Shelf, version: str, adapter: LoraAdapter) -> None:
    """Put other weights into style/ink, let DVC have them, and tag the commit."""
    folder = shelf.root / "manifests" / "style" / "ink"
    shutil.rmtree(folder)
    shelf.add("style/ink", adapter, trigger="zzink", weight={"default": 0.8})
    Workspace(shelf.root).store.track(folder / "weights")
    commit(shelf.root, f"style/ink {version}")
    git(shelf.root, "tag", f"style/ink@{version}")


@pytest.fixture
def released(shelf: Shelf) -> Shelf:
    """style/ink has v1.0.0 and v1.1.0; the second is checked out."""
    release(shelf, "v1.0.0", INK)
    release(shelf, "v1.1.0", SECOND)
    return shelf


def test_weights_of_an_older_release_come_out_of_the_cache_of_dvc(
    released: Shelf, run: Run
) -> None:
    run("compose", "style/ink@v1.0.0:0.5+style/glow", "--as", "old", "--output", "exact")

    assert differs(released, "old", (INK, 0.5), (GLOW, 1.0)) < 1e-6
    (first, _) = lock(released, "old")["members"]
    assert first["ref"] == "style/ink@v1.0.0"
    assert first["commit"] == git(released.root, "rev-parse", "style/ink@v1.0.0").strip()
    run("compose", "verify", "recipe/old")


def test_a_range_is_the_newest_release_in_it_and_stays_what_it_was_until_upgraded(
    released: Shelf, run: Run
) -> None:
    run("compose", "style/ink@^1.0:0.5+style/glow", "--as", "ranged", "--output", "exact")
    before = lock(released, "ranged")
    assert before["members"][0]["ref"] == "style/ink@v1.1.0"
    assert "style/ink@^1.0" in (recipe(released, "ranged") / "manifest.yaml").read_text()
    release(released, "v1.2.0", THIRD)
    release(released, "v2.0.0", GLOW)

    shown = run("compose", "upgrade", "ranged", "--dry-run")

    assert "style/ink@v1.1.0:0.5" in " ".join(shown.out.split())
    assert "style/ink@v1.2.0:0.5" in " ".join(shown.out.split())
    assert "nothing was written" in shown.err
    assert lock(released, "ranged") == before
    verdict = lorareg(released.root, "compose", "verify", "ranged")
    assert verdict.code == 1
    assert "compose upgrade recipe/ranged" in verdict.out.replace("\n", " ")

    changes = run("compose", "upgrade", "ranged", "--json").json["changes"]

    assert [change["member"] for change in changes] == ["style/ink"]
    assert lock(released, "ranged")["members"][0]["ref"] == "style/ink@v1.2.0"
    assert differs(released, "ranged", (THIRD, 0.5), (GLOW, 1.0)) < 1e-6
    run("compose", "verify", "ranged")
    assert "is up to date" in run("compose", "upgrade", "ranged").out


def test_a_release_that_is_not_there_is_refused_with_those_that_are(released: Shelf) -> None:
    missing, ranged = (
        lorareg(released.root, "compose", f"style/ink@{at}+style/glow", "--as", "x")
        for at in ("v3.0.0", "^2.0")
    )

    assert missing.code == ranged.code == 2
    assert "v3.0.0" in missing.err
    assert "there are v1.0.0, v1.1.0" in ranged.err


def test_a_channel_is_kept_as_the_release_it_points_to_when_it_is_composed(
    released: Shelf, run: Run
) -> None:
    folder = released.root / "manifests"
    pointers = folder / "style" / "ink" / "channels.yaml"
    pointers.write_text("schema: lorareg/1\nstable: v1.0.0\n", encoding="utf-8")

    run("compose", "style/ink@stable:0.5+style/glow", "--as", "x")
    pointers.write_text("schema: lorareg/1\nstable: v1.1.0\n", encoding="utf-8")

    manifest = folder / "recipe" / "x" / "manifest.yaml"
    assert "style/ink@v1.0.0" in manifest.read_text("utf-8")
    assert "is up to date" in run("compose", "upgrade", "x").out


def test_a_channel_in_a_recipe_is_refused_because_it_moves(released: Shelf, run: Run) -> None:
    run("compose", "style/ink@v1.0.0+style/glow", "--as", "x")
    manifest = released.root / "manifests" / "recipe" / "x" / "manifest.yaml"
    text = manifest.read_text("utf-8")
    manifest.write_text(text.replace("style/ink@v1.0.0", "style/ink@stable"), encoding="utf-8")

    answer = lorareg(released.root, "compose", "upgrade", "x")

    assert answer.code == 2
    assert "a channel moves" in answer.err


def test_upgrade_keeps_the_method_and_rewrites_the_file(released: Shelf, run: Run) -> None:
    expression = "style/ink@^1.0:0.5+character/zhangsan"
    ties = ("--method", "ties", "--keep", "0.4", "--output", "merged")
    run("compose", expression, "--as", "hero", *ties)
    release(released, "v1.2.0", THIRD)

    run("compose", "upgrade", "hero")

    run("compose", expression, "--as", "fresh", *ties)
    tensors = [lock(released, name)["outputs"][FILE]["tensors"] for name in ("hero", "fresh")]
    assert tensors[0] == tensors[1]
    run("compose", "verify", "hero")


def test_upgrade_holds_the_guards_and_writes_nothing_if_one_is_missed(
    released: Shelf, run: Run
) -> None:
    small = ("--output", "compressed", "--rank", "5", "--min-retention", "0.7")
    run("compose", "style/ink@^1.0:1+style/glow:0.15", "--as", "hero", *small)
    release(released, "v1.2.0", THIRD)
    before = lock(released, "hero")

    answer = lorareg(released.root, "compose", "upgrade", "hero")

    assert answer.code == 2
    assert "guards.min_retention is 0.7" in answer.err
    assert lock(released, "hero") == before


def test_an_edited_recipe_is_taken_over_by_upgrade_with_its_comments(
    shelf: Shelf, run: Run
) -> None:
    run("compose", EXPR, "--as", "hero", "--output", "exact")
    edit(shelf, "recipe/hero", "parts:", "# the face matters more\nparts:  # two")
    edit(shelf, "recipe/hero", "weight: 0.7", "weight: 0.4")
    assert lorareg(shelf.root, "compose", "verify", "hero").code == 1

    changes = run("compose", "upgrade", "hero", "--json").json["changes"]

    assert [(c["before"][:13], c["after"][:13]) for c in changes] == [
        ("style/ink:0.7", "style/ink:0.4")
    ]
    assert differs(shelf, "hero", (INK, 0.4), (ZHANGSAN, 0.9)) < 1e-6
    text = (recipe(shelf, "hero") / "manifest.yaml").read_text(encoding="utf-8")
    assert "# the face matters more\nparts:  # two" in text
    run("compose", "verify", "hero")


def test_composing_again_keeps_comments_titles_and_owners(shelf: Shelf, run: Run) -> None:
    run("compose", EXPR, "--as", "hero")
    edit(
        shelf,
        "recipe/hero",
        "parts:",
        "title: {zh: 水墨张三}  # for the list\nowners: [bob]\nparts:",
    )

    run("compose", "style/ink:0.6+character/zhangsan:0.9", "--as", "hero", "--overwrite")

    text = (recipe(shelf, "hero") / "manifest.yaml").read_text(encoding="utf-8")
    assert "title: {zh: 水墨张三}  # for the list\nowners: [bob]" in text
    assert "0.6" in text
    assert "0.7" not in text


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("weight: 0.7", "wieght: 0.7", "did you mean weight?"),
        ("weight: 0.7", "weight: 1000", "less than or equal"),
        ("parts:", "method: {name: tise}\nparts:", "ties"),
        ("parts:", "compression: {rank: 0}\nparts:", "compression.rank"),
    ],
)
def test_a_slip_in_an_edited_recipe_is_named_with_its_key(
    shelf: Shelf, run: Run, before: str, after: str, says: str
) -> None:
    run("compose", EXPR, "--as", "hero", "--method", "tsv")
    if before == "parts:":
        edit(shelf, "recipe/hero", 'method: {"name": "tsv"}\n', "")
    edit(shelf, "recipe/hero", before, after)

    answer = lorareg(shelf.root, "compose", "upgrade", "hero")

    assert answer.code == 2
    assert "manifests/recipe/hero/manifest.yaml has " in answer.err
    assert says in answer.err


def test_the_file_of_another_composition_does_not_stay_under_a_recipe_that_has_none(
    shelf: Shelf, run: Run
) -> None:
    run("compose", EXPR, "--as", "hero", "--output", "exact")
    weights = recipe(shelf, "hero") / "weights"

    run("compose", EXPR, "--as", "hero")
    assert (weights / FILE).is_file()
    assert FILE in lock(shelf, "hero")["outputs"]

    run("compose", "style/ink:0.1+style/glow", "--as", "hero", "--overwrite")
    assert not weights.exists()
    assert not weights.with_name("weights.dvc").exists()
    assert lock(shelf, "hero")["outputs"] == {}


def test_a_merge_is_seen_by_no_more_people_than_its_members(shelf: Shelf, run: Run) -> None:
    edit(shelf, "style/ink", '"scope"', '"visibility": "private", "scope"')

    run("compose", EXPR, "--as", "hero", "--output", "exact")

    assert 'visibility: "private"' in (recipe(shelf, "hero") / "manifest.yaml").read_text()
    edit(shelf, "recipe/hero", '"private"', "public")
    answer = lorareg(shelf.root, "compose", EXPR, "--as", "hero", "--output", "exact")
    assert answer.code == 2
    assert "recipe/hero is public, and would hold the weights of style/ink" in answer.err
