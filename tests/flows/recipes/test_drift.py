"""What changes after a recipe was composed: members, their terms, who may see them."""

from __future__ import annotations

import json

import pytest

from lorareg.errors import LoraregError
from lorareg.registry import verify
from lorareg.registry.ids import AssetId
from lorareg.registry.sharing import pushing
from lorareg.weights.formats import diffusers
from tests.flows.conftest import lorareg
from tests.flows.recipes.conftest import Run
from tests.flows.recipes.shelved import EXPR, GLOW, edit, recipe
from tests.weights.composed import Shelf


def test_a_recipe_whose_member_was_trained_anew_says_so_when_it_is_used(
    shelf: Shelf, run: Run
) -> None:
    run("compose", EXPR, "--as", "hero")
    assert not shelf.compose("recipe/hero").warnings
    ink = shelf.root / "manifests/style/ink"

    diffusers.write(ink / "weights" / diffusers.FILE, GLOW, {})
    shelf._lock("style/ink", "text-to-image", "builtin:avatar", {}, None)

    (warning,) = shelf.compose("recipe/hero").warnings
    assert warning.startswith("recipe/hero is no longer what its lock pins (style/ink)")
    assert "lorareg compose upgrade recipe/hero --dry-run" in warning
    run("compose", "upgrade", "recipe/hero")
    assert not shelf.compose("recipe/hero").warnings


def test_a_merge_is_not_exported_under_terms_that_forbid_it_now(shelf: Shelf, run: Run) -> None:
    run("compose", EXPR, "--as", "hero", "--output", "exact")
    edit(shelf, "style/ink", '"commercial": "resale"', '"expires": "2020-01-01"')

    answer = lorareg(shelf.root, "export", "recipe/hero", "--format", "kohya", "--out", "x")

    assert answer.code == 2
    assert "you may not export style/ink" in answer.err
    assert "its scope expired on 2020-01-01" in answer.err
    assert not (shelf.root / "x").exists()


def test_an_adapter_alone_is_not_exported_after_its_terms_ran_out(shelf: Shelf) -> None:
    edit(shelf, "style/ink", '"commercial": "resale"', '"expires": "2020-01-01"')

    answer = lorareg(shelf.root, "export", "style/ink", "--format", "diffusers", "--out", "x")

    assert answer.code == 2
    assert "you may not export style/ink" in answer.err
    assert "its scope expired on 2020-01-01" in answer.err
    assert not (shelf.root / "x").exists()


def test_a_file_that_holds_a_private_member_is_named_and_not_pushed(shelf: Shelf, run: Run) -> None:
    hero = AssetId("recipe", "hero")
    run("compose", EXPR, "--as", "hero", "--output", "exact")
    edit(shelf, "style/ink", '"scope"', '"visibility": "private", "scope"')

    found = [each for each in verify.verify(shelf.workspace, hero) if not each.ok]

    assert [each.what for each in found] == ["visibility"]
    assert found[0].detail == "its merged file holds style/ink (private)"
    with pytest.raises(LoraregError, match=r"recipe/hero holds style/ink \(private\)"):
        pushing.push(shelf.workspace, [hero], print)


def test_a_recipe_without_a_file_may_name_a_private_member(shelf: Shelf, run: Run) -> None:
    hero = AssetId("recipe", "hero")
    run("compose", EXPR, "--as", "hero")
    edit(shelf, "style/ink", '"scope"', '"visibility": "private", "scope"')

    assert all(each.ok for each in verify.verify(shelf.workspace, hero))


def test_a_changed_window_is_seen_in_what_an_upgrade_shows(shelf: Shelf, run: Run) -> None:
    run("compose", "style/ink:0.7{steps=0-0.8}+style/glow:1", "--as", "hero")
    text = (recipe(shelf, "hero") / "manifest.yaml").read_text()
    assert "0.8" in text
    (recipe(shelf, "hero") / "manifest.yaml").write_text(text.replace("0.8", "0.5"))

    (change,) = run("compose", "upgrade", "hero", "--dry-run", "--json").json["changes"]

    assert change["before"].startswith("style/ink:0.7{steps=0.0-0.8} ")
    assert change["after"].startswith("style/ink:0.7{steps=0.0-0.5} ")


def test_probes_are_counted_by_show_and_written_out_by_its_json(shelf: Shelf, run: Run) -> None:
    run("compose", EXPR, "--as", "hero")

    told = run("show", "recipe/hero").out
    count = len(json.loads((recipe(shelf, "hero") / "lock.json").read_text())["probes"])

    assert f"probes: of {count} modules" in told
    assert len(run("show", "recipe/hero", "--json").json["lock"]["probes"]) == count


def test_a_lock_that_was_edited_does_not_verify(shelf: Shelf, run: Run) -> None:
    run("compose", "style/ink:0.7{up=0.4,steps=0-0.5}+style/glow", "--as", "hero")
    run("compose", "verify", "hero")
    path = recipe(shelf, "hero") / "lock.json"
    path.write_text(path.read_text().replace('"weight": 0.7', '"weight": 0.6'))

    answer = lorareg(shelf.root, "compose", "verify", "hero")

    assert answer.code == 1
    assert "its fingerprint does not follow from its members" in answer.out
