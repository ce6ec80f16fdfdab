"""A folder goes in; every planted problem comes out by name, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFilter

from tests.flows.conftest import lorareg, set_keys
from tests.flows.scenes import make_scenes, scene, write_captions

SIDE = 128
ASK = ("--resolution", str(SIDE), "--base", "builtin:avatar", "--trigger", "zlab", "--json")


def by_code(report: dict[str, Any]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for finding in report["findings"]:
        found[finding["code"]].update(finding["files"])
    return dict(found)


def test_clean_pictures_are_called_good(tmp_path: Path) -> None:
    captions = make_scenes(tmp_path / "clean", 40, SIDE)
    write_captions(tmp_path / "clean", captions)

    answer = lorareg(tmp_path, "data", "check", "clean", *ASK)

    assert answer.code == 0
    assert answer.json["findings"] == []
    assert answer.json["records"] == 40
    assert answer.json["statistics"]["pictures"] == 40


def test_fifteen_planted_problems_are_reported_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "planted"
    captions = make_scenes(folder, 30, SIDE)
    plant(folder, captions)

    answer = lorareg(tmp_path, "data", "check", "planted", *ASK)

    assert answer.code == 1
    assert by_code(answer.json) == {
        "broken": {"broken.png"},
        "too-small": {"small.png"},
        "blurry": {"blurry.png"},
        "near-black": {"black.png"},
        "duplicate": {"scene00.png", "twin.png"},
        "near-duplicate": {"scene01.png", "again.jpg"},
        "colour-mode": {"inks.jpg"},
        "orientation": {"turned.jpg"},
        "gps": {"holiday.jpg"},
        "odd-aspect": {"wide.png"},
        "unread": {"old.gif"},
        "caption-missing": {"mute.png"},
        "caption-too-long": {"scene02.png"},
        "trigger-missing": {"scene03.png"},
        "caption-astray": {"gone.png"},
    }
    for finding in answer.json["findings"]:
        assert finding["why"], finding
        assert finding["fix"], finding


def plant(folder: Path, captions: dict[str, str]) -> None:
    """One problem a file, by the name of the file."""

    def add(name: str, picture: Image.Image, **options: Any) -> None:
        picture.save(folder / name, **options)
        captions[name] = f"zlab, {Path(name).stem} room"

    add("broken.png", scene(50, SIDE))
    (folder / "broken.png").write_bytes((folder / "broken.png").read_bytes()[:-400])
    add("small.png", scene(51, SIDE - 1))
    add("blurry.png", scene(52, SIDE).filter(ImageFilter.GaussianBlur(4)))
    add("black.png", scene(53, SIDE).point(lambda value: value // 32))
    shutil.copyfile(folder / "scene00.png", folder / "twin.png")
    captions["twin.png"] = "zlab, twin room"
    add("again.jpg", scene(1, SIDE), quality=60)
    add("inks.jpg", scene(54, SIDE).convert("CMYK"), quality=95)
    turned, holiday = Image.Exif(), Image.Exif()
    turned[0x0112] = 6
    holiday.get_ifd(0x8825).update({1: "N", 2: (30.0, 15.0, 0.0), 3: "E", 4: (120.0, 10.0, 0.0)})
    add("turned.jpg", scene(55, SIDE), exif=turned, quality=95)
    add("holiday.jpg", scene(56, SIDE), exif=holiday, quality=95)
    add("wide.png", scene(57, 4 * SIDE).crop((0, 0, 4 * SIDE, SIDE)))
    scene(58, SIDE).save(folder / "old.gif")
    scene(59, SIDE).save(folder / "mute.png")
    captions["gone.png"] = "zlab, a picture that was deleted"
    captions["scene02.png"] = "zlab, " + ", ".join(f"shape {n} on a wall" for n in range(30))
    captions["scene03.png"] = "a room without its word"
    write_captions(folder, captions)


def test_an_unchanged_dataset_is_not_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions = make_scenes(tmp_path / "clean", 12, SIDE)
    write_captions(tmp_path / "clean", captions)
    first = lorareg(tmp_path, "data", "check", "clean", *ASK)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a picture was opened")

    monkeypatch.setattr(Image, "open", refuse)
    again = lorareg(tmp_path, "data", "check", "clean", *ASK)

    assert again.json == first.json


def test_a_change_of_caption_vocabulary_or_wish_is_seen(tmp_path: Path) -> None:
    folder = tmp_path / "clean"
    captions = make_scenes(folder, 12, SIDE)
    write_captions(folder, captions)
    assert lorareg(tmp_path, "data", "check", "clean", *ASK).code == 0

    (folder / "vocabulary.yaml").write_text(
        "schema: lorareg/vocabulary/1\nbanned: [wall]\n", encoding="utf-8"
    )
    banned = lorareg(tmp_path, "data", "check", "clean", *ASK)
    larger = lorareg(tmp_path, "data", "check", "clean", "--resolution", "256", "--json")

    assert set(by_code(banned.json)) == {"vocabulary-banned"}
    assert len(by_code(larger.json)["too-small"]) == 12


def test_an_adapter_with_buckets_is_held_to_its_buckets(registry: Path) -> None:
    set_keys(registry, "character/dot", "train.resolution=64")
    square = lorareg(registry, "data", "check", "character/dot", "--json")
    set_keys(registry, "character/dot", "train.buckets.step=32")
    shapes = lorareg(registry, "data", "check", "character/dot", "--json")

    assert len(by_code(square.json)["too-small"]) == 8
    assert "too-small" not in by_code(shapes.json)


def test_training_names_every_error_before_anything_loads(registry: Path) -> None:
    (registry / "data/dots/img00.png").write_bytes(b"no picture")
    lines = (registry / "data/dots/metadata.csv").read_text(encoding="utf-8").splitlines()
    (registry / "data/dots/metadata.csv").write_text("\n".join(lines[:-1]), encoding="utf-8")

    answer = lorareg(registry, "train", "character/dot")

    assert answer.code == 2
    assert "img00.png" in answer.err
    assert "img07.png" in answer.err
    assert not (registry / "manifests/character/dot/lock.json").exists()


def test_training_says_what_it_was_warned_of_and_the_card_shows_the_data(registry: Path) -> None:
    dots = registry / "data/dots"
    shutil.copyfile(dots / "img00.png", dots / "twin.png")
    with (dots / "metadata.csv").open("a", encoding="utf-8") as table:
        table.write('twin.png,"a red zdot, number 0"\n')

    set_keys(registry, "character/dot", "train.validation.share=0")

    answer = lorareg(registry, "train", "character/dot")

    assert answer.code == 0, answer.err
    assert "1 duplicate" in answer.err
    assert "lorareg data check character/dot" in answer.err
    folder = registry / "manifests/character/dot"
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "![what it was trained on](dataset.png)" in card
    assert "9 pictures" in card
    assert Image.open(folder / "dataset.png").size[0] > 0
    index = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    assert index["statistics"]["pictures"] == 9


def test_a_private_adapter_shows_no_picture_of_its_data(registry: Path) -> None:
    set_keys(registry, "character/dot", "visibility=private")

    answer = lorareg(registry, "train", "character/dot")

    assert answer.code == 0, answer.err
    folder = registry / "manifests/character/dot"
    assert not (folder / "dataset.png").exists()
    assert "dataset.png" not in (folder / "README.md").read_text(encoding="utf-8")


def test_personal_data_is_not_trained_on_until_an_owner_waives(registry: Path) -> None:
    set_keys(registry, "character/dot", "dataset.contains_personal_data=true", "owners=[alice]")

    refused = lorareg(registry, "train", "character/dot")
    set_keys(registry, "character/dot", "dataset.waiver={by: alice, reason: her own pictures}")
    trained = lorareg(registry, "train", "character/dot")

    assert refused.code == 2
    assert "contains personal data" in refused.err
    assert trained.code == 0, trained.err


def test_no_switch_of_the_command_line_releases_personal_data(registry: Path) -> None:
    set_keys(registry, "character/dot", "dataset.contains_personal_data=true")

    answer = lorareg(
        registry, "train", "character/dot", "--set", "dataset.contains_personal_data=false"
    )

    assert answer.code == 2
    assert "not a switch" in answer.err
    shown = lorareg(registry, "show", "character/dot", "--json").json["manifest"]
    assert shown["dataset"]["contains_personal_data"] is True


def test_what_becomes_private_takes_its_contact_sheet_back(registry: Path) -> None:
    folder = registry / "manifests/character/dot"
    assert lorareg(registry, "train", "character/dot").code == 0
    assert (folder / "dataset.png").exists()
    set_keys(registry, "character/dot", "visibility=private")

    pushed = lorareg(registry, "push", "character/dot")

    assert pushed.code == 0, pushed.err
    assert not (folder / "dataset.png").exists()
    assert "dataset.png" not in (folder / "README.md").read_text(encoding="utf-8")
