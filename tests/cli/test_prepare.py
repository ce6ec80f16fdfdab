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


def test_a_size_that_cannot_be_is_refused_before_anything_is_read(registry: Path) -> None:
    code, _, err = typed("data/ink", "--out", "copies", "--size", "100", "--shape", "buckets")

    assert code == 2
    assert "size: " in err
    assert "choose --size 512, 768 or 1024" in err


def test_dialogues_are_sent_to_the_command_for_them(registry: Path) -> None:
    (registry / "talk.jsonl").write_text('{"prompt": "a", "completion": "b"}\n', encoding="utf-8")

    code, _, err = typed("talk.jsonl", "--out", "copies")

    assert code == 2
    assert "lorareg data redact talk.jsonl" in err
