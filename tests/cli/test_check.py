"""``lorareg data check`` as a person or a script meets it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from lorareg.cli.app import app


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two good pictures of which none has a caption yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LORAREG_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    for seed, name in enumerate(("[red]a.png", ":cat:.png")):
        noise = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        picture = Image.fromarray(noise).resize((512, 512), Image.Resampling.NEAREST)
        picture.save(tmp_path / "data" / name)
    return tmp_path / "data"


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["data", "check", "data", *words])
    return done.exit_code, done.stdout


def test_a_good_dataset_is_said_to_be_good(folder: Path) -> None:
    (folder / "metadata.csv").write_text("[red]a.png,one\n:cat:.png,two\n")

    assert run() == (0, "2 pictures: good\n")


def test_errors_come_first_and_give_exit_status_1(folder: Path) -> None:
    (folder / "metadata.csv").write_text("[red]a.png,arafed\n")

    status, shown = run()

    assert status == 1
    assert shown.index("error caption-missing (1)") < shown.index("warning caption-leftover (1)")
    assert shown.endswith("2 pictures: 1 error, 1 warning\n")


def test_names_are_shown_as_they_are_whatever_they_hold(folder: Path) -> None:
    (folder / "metadata.csv").write_text(
        "[red]a.png,arafed <b>[/]\x1b[31m\n:cat:.png,www.:dog:.com\n"
    )

    shown = run()[1]

    assert "  [red]a.png: holds 'arafed', '<b>', U+001B\n" in shown
    assert "  :cat:.png: holds 'www.:dog:.com'\n" in shown


def test_twenty_findings_of_a_kind_are_shown_and_all_are_in_the_document(folder: Path) -> None:
    rows = ["[red]a.png,one", ":cat:.png,two", *(f"{number:02}.png,x" for number in range(25))]
    (folder / "metadata.csv").write_text("\n".join(rows))

    shown = run()[1]
    status, text = run("--json")

    assert shown.count("a caption of a picture that is not there") == 20
    assert "error caption-astray (25)" in shown
    assert "... and 5 more" in shown
    assert shown.count("fix:") == 1
    assert status == 1
    document = json.loads(text)
    assert document["ok"] is False
    assert [f["files"] for f in document["findings"]] == [[f"{n:02}.png"] for n in range(25)]


def test_the_trigger_word_of_the_command_line_is_looked_for(folder: Path) -> None:
    (folder / "metadata.csv").write_text('[red]a.png,"zhang, one"\n:cat:.png,two\n')

    assert run()[1] == "2 pictures: good\n"
    assert "  :cat:.png: without the trigger word 'zhang'\n" in run("--trigger", "zhang")[1]


def test_captions_are_counted_with_the_tokenizer_of_a_named_base(folder: Path) -> None:
    (folder / "metadata.csv").write_text(f"[red]a.png,{'cat dog ' * 30}\n:cat:.png,two\n")

    shown = run("--base", "builtin:avatar")[1]

    assert "warning caption-too-long (1)" in shown
    assert "the base reads 40; it never sees" in shown


def test_a_fix_without_a_vocabulary_says_what_is_missing(folder: Path) -> None:
    (folder / "metadata.csv").write_text("[red]a.png,one\n:cat:.png,two\n")

    done = CliRunner().invoke(app, ["data", "check", "data", "--fix"])

    assert done.exit_code == 2
    assert "data has no vocabulary.yaml" in done.stderr


def test_a_fix_is_part_of_the_json_document(folder: Path) -> None:
    (folder / "metadata.csv").write_text("[red]a.png,flare\n:cat:.png,light\n")
    (folder / "vocabulary.yaml").write_text(
        "schema: lorareg/vocabulary/1\ngroups: {light: {terms: [light]}}\naliases: {flare: light}\n"
    )

    fixed = json.loads(run("--fix", "--json")[1])["fixed"]

    assert fixed["captions"] == 1
    assert Path(fixed["path"]).read_text() == "[red]a.png,light\n:cat:.png,light\n"
    assert "+[red]a.png,light\n" in fixed["diff"]


def test_a_fix_stands_right_below_the_findings_it_mends(folder: Path) -> None:
    (folder / "metadata.csv").write_text("[red]a.png,TODO\n:cat:.png,arafed\n")

    lines = run()[1].splitlines()

    assert lines[0] == "warning caption-leftover (2)"
    assert lines[1] == "  :cat:.png: holds 'arafed'"
    assert lines[2].startswith("  fix: write it as a person would")
    assert lines[3] == "  [red]a.png: is only 'TODO'"
    assert lines[4].startswith("  fix: say what is seen")


def test_names_with_numbers_are_in_the_order_of_people(folder: Path) -> None:
    (folder / "metadata.csv").write_text("i10.png,x\ni2.png,y\n[red]a.png,one\n:cat:.png,two\n")

    shown = run()[1]

    assert shown.index("  i2.png") < shown.index("  i10.png")


def test_an_empty_trigger_word_is_refused(folder: Path) -> None:
    (folder / "metadata.csv").write_text("[red]a.png,one\n:cat:.png,two\n")

    done = CliRunner().invoke(app, ["data", "check", "data", "--trigger", " "])

    assert done.exit_code == 2
    assert "--trigger is empty" in done.stderr


def test_a_single_picture_is_refused_with_its_folder(folder: Path) -> None:
    done = CliRunner().invoke(app, ["data", "check", str(folder / "[red]a.png")])

    assert done.exit_code == 2
    assert "is no dataset" in done.stderr
    assert f"name its folder: {folder}" in done.stderr


def test_a_vocabulary_with_several_problems_is_one_line(folder: Path) -> None:
    (folder / "metadata.csv").write_text("[red]a.png,one\n:cat:.png,two\n")
    (folder / "vocabulary.yaml").write_text(
        "schema: lorareg/vocabulary/1\naliases: {a1: gone, b1: lost}\n"
    )

    shown = run()[1]

    assert "data/vocabulary.yaml has 2 problems: " in shown
    assert "\\n" not in shown


def test_a_vocabulary_that_is_not_read_is_named(folder: Path) -> None:
    (folder / "metadata.csv").write_text("[red]a.png,one\n:cat:.png,two\n")
    (folder / "vocabulary.yml").write_text("schema: lorareg/vocabulary/1\n")
    (folder / "vocabulary.yaml").mkdir()

    lines = run()[1].splitlines()

    assert lines[:3] == [
        "warning vocabulary-unread (2)",
        "  vocabulary.yaml/: it is not read; name it vocabulary.yaml",
        "  vocabulary.yml: it is not read; name it vocabulary.yaml",
    ]
