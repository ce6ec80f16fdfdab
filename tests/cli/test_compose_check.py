"""``lorareg compose check``, and what ``compose`` does before it builds."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.flows.conftest import git, lorareg
from tests.weights.composed import Shelf
from tests.weights.planted import SMALL, sharing

EXPR = "style/ink:0.7+character/zhangsan:0.9"


@pytest.fixture
def shelf(registry: Path) -> Shelf:
    git(registry, "init", "--quiet", "--initial-branch=main")
    found = Shelf(registry)
    one, other = sharing(SMALL, [4, 4], 0.0)
    found.add("style/ink", one, trigger="zzink")
    found.add("character/zhangsan", other, trigger="zzhangsan")
    return found


def edit(shelf: Shelf, name: str, before: str, after: str) -> None:
    path = shelf.root / "manifests" / name / "manifest.yaml"
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")


def test_what_fits_is_0_and_nothing_is_written(shelf: Shelf) -> None:
    answer = lorareg(shelf.root, "compose", "check", EXPR)

    assert answer.code == 0, answer.err
    assert "style/ink and character/zhangsan: cosine" in answer.out
    assert "commercial: resale" in answer.out
    assert "credit style/ink by alice, MIT" in answer.out
    assert not (shelf.root / "manifests" / "recipe").exists()


def test_a_no_is_1_and_bad_input_is_2(shelf: Shelf) -> None:
    edit(shelf, "style/ink", '"zzink"', '"zzhangsan"')

    no, bad = (lorareg(shelf.root, "compose", "check", each) for each in (EXPR, "style/none"))

    assert no.code == 1
    assert "refused triggers" in no.out
    assert bad.code == 2


def test_a_warning_is_a_no_under_strict_only(shelf: Shelf) -> None:
    edit(shelf, "style/ink", '"MIT"', '"house rules"')

    assert lorareg(shelf.root, "compose", "check", EXPR).code == 0
    strict = lorareg(shelf.root, "compose", "check", EXPR, "--strict")
    assert strict.code == 1
    assert "refused licences" in strict.out


def test_one_document_holds_everything(shelf: Shelf) -> None:
    edit(shelf, "style/ink", '"MIT"', '"CC-BY-NC-4.0"')

    found = lorareg(shelf.root, "compose", "check", EXPR, "--json").json

    assert found["allowed"] is True
    assert found["terms"]["commercial"] == "none"
    assert found["conflicts"]["names"] == ["style/ink", "character/zhangsan"]
    assert {"what", "ok", "detail", "fix", "is_hard"} == set(found["findings"][0])


def test_a_heat_map_is_drawn_where_it_is_asked_for(shelf: Shelf, tmp_path: Path) -> None:
    picture = tmp_path / "map.png"

    assert lorareg(shelf.root, "compose", "check", EXPR, "--heatmap", str(picture)).code == 0

    with Image.open(picture) as found:
        assert found.format == "PNG"


def test_compose_refuses_what_check_refuses_and_writes_nothing(shelf: Shelf) -> None:
    edit(shelf, "style/ink", '"zzink"', '"zzhangsan"')

    answer = lorareg(shelf.root, "compose", EXPR, "--as", "both")

    assert answer.code == 2
    assert "share the trigger" in answer.err
    assert not (shelf.root / "manifests" / "recipe").exists()


def test_compose_prints_warnings_and_refuses_them_under_strict(shelf: Shelf) -> None:
    edit(shelf, "style/ink", '"MIT"', '"house rules"')

    strict = lorareg(shelf.root, "compose", EXPR, "--as", "both", "--strict")
    composed = lorareg(shelf.root, "compose", EXPR, "--as", "both", "--json")

    assert strict.code == 2
    assert composed.code == 0, composed.err
    assert "warning licences: nothing is known here of style/ink (house rules)" in composed.err
    assert any("house rules" in warning for warning in composed.json["warnings"])


def test_a_licence_without_derivatives_leaves_the_recipe(shelf: Shelf) -> None:
    edit(shelf, "style/ink", '"MIT"', '"CC-BY-ND-4.0"')

    merged = lorareg(shelf.root, "compose", EXPR, "--as", "both", "--output", "exact")
    recipe = lorareg(shelf.root, "compose", EXPR, "--as", "both")

    assert merged.code == 2
    assert "may not go into merged weights" in merged.err
    assert recipe.code == 0, recipe.err


def test_options_may_come_before_the_expression(shelf: Shelf) -> None:
    answer = lorareg(shelf.root, "compose", "--as", "both", EXPR)

    assert answer.code == 0, answer.err
    assert (shelf.root / "manifests/recipe/both/lock.json").is_file()


def test_the_help_shows_both_ways(shelf: Shelf) -> None:
    group = lorareg(shelf.root, "compose", "--help")
    command = lorareg(shelf.root, "compose", "EXPR", "--help")

    assert group.code == command.code == 0
    assert "EXPR" in group.out
    assert "check" in group.out
    assert "--as" in command.out


def test_the_shell_completes_commands_and_expressions(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from lorareg.cli.app import app

    def completed(words: str) -> list[str]:
        environment = {
            "_LORAREG_COMPLETE": "complete_bash", "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        }  # fmt: skip
        return CliRunner().invoke(app, env=environment, prog_name="lorareg").stdout.split()

    monkeypatch.chdir(shelf.root)

    assert completed("lorareg compose style") == ["style/ink"]
    assert completed("lorareg compose che") == ["check"]
    assert completed("lorareg compose check char") == ["character/zhangsan"]
