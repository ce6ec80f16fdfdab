"""``lorareg data prepare`` as people type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from lorareg.cli.prepare import prepare
from lorareg.cli.root import Root

app = typer.Typer(cls=Root)
app.callback()(lambda: None)
app.command()(prepare)
MANIFEST = """schema: lorareg/1
kind: style
name: ink
task: text-to-image
base: {model: "builtin:avatar"}
dataset: {path: data/ink, captions: txt, skip: [torn.png]}
train: {resolution: 64}
"""


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two pictures and a torn one, which the manifest skips."""
    data = tmp_path / "data" / "ink"
    data.mkdir(parents=True)
    for number, colour in enumerate(("red", "blue")):
        Image.new("RGB", (100, 80), colour).save(data / f"{number}.png")
        (data / f"{number}.txt").write_text(f"a {colour} square", encoding="utf-8")
    (data / "torn.png").write_bytes((data / "0.png").read_bytes()[:60])
    folder = tmp_path / "manifests" / "style" / "ink"
    folder.mkdir(parents=True)
    (folder / "manifest.yaml").write_text(MANIFEST, encoding="utf-8")
    (tmp_path / "lorareg.yaml").write_text("schema: lorareg/1\nname: scratch\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["prepare", *words])
    return done.exit_code, done.stdout, done.stderr


def test_an_adapters_pictures_take_size_and_skip_from_its_manifest(registry: Path) -> None:
    code, out, err = typed("style/ink", "--out", "data/ink_64")

    assert code == 0
    assert "2 copies are in data/ink_64" in out
    assert "64x64" in out
    assert (
        "lorareg train style/ink --set dataset.path=data/ink_64 "
        "--set dataset.captions=metadata.csv" in err
    )
    assert len(list((registry / "data" / "ink_64").glob("*.png"))) == 2


def test_a_broken_picture_is_named_and_the_answer_is_no(registry: Path) -> None:
    code, out, _ = typed("data/ink", "--out", "copies", "--size", "64")

    assert code == 1
    assert "left out, broken: torn.png: " in out


def test_json_is_one_document_with_every_copy(registry: Path) -> None:
    code, out, _ = typed("style/ink", "--out", "copies", "--dry-run", "--json")

    document = json.loads(out)
    assert code == 0
    assert document["dry_run"]
    assert document["buckets"] == {"64x64": 2}
    assert {copy["source"] for copy in document["copies"].values()} == {"0.png", "1.png"}
    assert not (registry / "copies").exists()


@pytest.mark.parametrize(
    ("size", "shape", "why"),
    [
        ("500", "square", "size: input should be a multiple of 8 (found 500)"),
        ("520", "buckets", "size: with buckets it is a multiple of 64 (found 520)"),
    ],
)
def test_a_size_that_cannot_be_is_refused_before_anything_is_read(
    registry: Path, size: str, shape: str, why: str
) -> None:
    code, _, err = typed("data/ink", "--out", "copies", "--size", size, "--shape", shape)

    assert code == 2
    assert why in err
    assert "the command line has 1 problem" in err
    assert "a multiple of 8, with --shape buckets of 64: --size 512, 768 or 1024" in err


def test_dialogues_are_sent_to_the_command_for_them(registry: Path) -> None:
    (registry / "talk.jsonl").write_text('{"prompt": "a", "completion": "b"}\n', encoding="utf-8")

    code, _, err = typed("talk.jsonl", "--out", "copies")

    assert code == 2
    assert "lorareg data redact talk.jsonl" in err


@pytest.mark.parametrize("kind", ["jpg", "jpeg"])
def test_jpg_and_jpeg_are_one_format(registry: Path, kind: str) -> None:
    typed("style/ink", "--out", "copies", "--format", "jpeg")

    code, out, _ = typed("style/ink", "--out", "copies", "--format", kind, "--json")

    assert code == 0
    assert json.loads(out)["settings"]["format"] == "jpeg"


def test_an_unread_picture_is_named_and_the_answer_is_no(registry: Path) -> None:
    (registry / "data" / "ink" / "phone.heic").write_bytes(b"anything")

    code, out, _ = typed("style/ink", "--out", "copies")
    document = json.loads(typed("style/ink", "--out", "copies", "--json")[1])

    why = ".heic pictures are not read; convert them to .png or .jpg"
    assert code == 1
    assert f"left out, unread: phone.heic: {why}" in out
    assert document["left_out"] == [{"source": "phone.heic", "reason": "unread", "why": why}]
    saved = json.loads((registry / "copies" / "provenance.json").read_text(encoding="utf-8"))
    assert saved["left_out"] == document["left_out"]


def test_a_single_picture_is_told_that_its_folder_is_wanted(registry: Path) -> None:
    code, _, err = typed("data/ink/0.png", "--out", "copies")

    assert code == 2
    assert "data/ink/0.png is no dataset" in err
    assert "name its folder: data/ink" in err


@pytest.mark.parametrize("where", ["data/other", "data/other/new", "data"])
def test_copies_do_not_go_into_the_dataset_of_another_adapter(registry: Path, where: str) -> None:
    """Nor around it: ``data`` is refused though nothing of the dataset is here."""
    write(registry, "other", "data/other")
    (registry / "data" / "other").mkdir()
    Image.new("RGB", (64, 64), "red").save(registry / "data" / "other" / "mine.png")
    (registry / "data" / "ink").rename(registry / "raw")

    code, _, err = typed("raw", "--out", where, "--size", "64")

    assert code == 2
    words = "is not empty" if where == "data/other" else "overlaps the dataset of style/"
    assert f"{where}" in err
    assert words in err
    assert not (registry / "data" / "other" / "new").exists()


def test_a_manifest_may_name_the_folder_of_the_copies_itself(registry: Path) -> None:
    write(registry, "other", "data/copies")
    write(registry, "broken", "data/copies/new").write_text("schema: [", encoding="utf-8")

    codes = [typed("style/ink", "--out", "data/copies")[0] for _ in range(2)]

    assert codes == [0, 0]


@pytest.mark.parametrize(
    ("where", "said", "advice"),
    [
        (".", "--out . overlaps the dataset data/ink", "--out data/ink_prepared"),
        ("data/ink/x", "--out data/ink/x overlaps", "--out data/ink_prepared"),
        ("/dev/null", "--out /dev/null is no folder", "--out data/ink_prepared"),
        ("lorareg.yaml", "--out lorareg.yaml is no folder", "--out data/ink_prepared"),
        ("manifests", "manifests/ is not empty", "--out manifests_2"),
    ],
)
@pytest.mark.parametrize("source", ["data/ink", "style/ink"])
def test_a_folder_that_cannot_be_used_is_named_as_typed(
    registry: Path, where: str, said: str, advice: str, source: str
) -> None:
    code, _, err = typed(source, "--out", where, "--size", "64")

    assert code == 2
    assert said in err
    assert advice in err


def test_advice_on_the_current_folder_has_its_name(
    registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(registry / "data" / "ink")

    _, _, err = typed(".", "--out", "x", "--size", "64")

    assert "--out x overlaps the dataset ." in err
    assert "--out ../ink_prepared" in err


def write(registry: Path, name: str, dataset: str) -> Path:
    """Another adapter of the registry."""
    path = registry / "manifests" / "style" / name / "manifest.yaml"
    path.parent.mkdir()
    text = MANIFEST.replace("name: ink", f"name: {name}").replace("data/ink", dataset)
    path.write_text(text, encoding="utf-8")
    return path
