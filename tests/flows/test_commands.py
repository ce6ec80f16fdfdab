"""What each command answers on a good day."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from lorareg.cli.app import app
from tests.flows.conftest import lorareg, make_pictures, set_keys

LIGHT = ["list", "show character/dot", "status", "verify --quick", "--help", "train --help"]


def test_init_is_idempotent(tmp_path: Path) -> None:
    first = lorareg(tmp_path, "init", "reg", "--json")
    files = {p: p.read_bytes() for p in (tmp_path / "reg").glob("*") if p.is_file()}
    again = lorareg(tmp_path, "init", "reg", "--json")

    assert first.code == again.code == 0
    assert first.json == again.json
    assert {p: p.read_bytes() for p in (tmp_path / "reg").glob("*") if p.is_file()} == files


def test_new_on_the_built_in_base_trains_without_an_edit(registry: Path) -> None:
    make_pictures(registry / "data" / "faces", side=64)

    answer = lorareg(registry, "new", "style/faces", "--data", "data/faces")

    assert answer.code == 0, answer.err
    shown = lorareg(registry, "show", "style/faces", "--json").json["manifest"]
    assert shown["task"] == "text-to-image"
    assert shown["base"]["model"] == "builtin:avatar"
    assert shown["train"]["resolution"] == 64


@pytest.mark.parametrize("command", LIGHT)
def test_light_commands_never_import_torch(command: str, registry: Path) -> None:
    probe = (
        "import sys; from lorareg.cli.app import app; "
        f"app({command.split()!r}, standalone_mode=False); "
        "heavy = {'torch', 'diffusers', 'transformers', 'peft', 'dvc', 'git'} & set(sys.modules); "
        "print('HEAVY', sorted(heavy), file=sys.stderr)"
    )

    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=registry, capture_output=True, text=True, check=False
    )

    heavy = done.stderr.rpartition("HEAVY")[2].strip()
    assert "torch" not in heavy, done.stderr
    assert heavy in ("", "[]", "['git']"), done.stderr


def test_every_command_and_option_has_help() -> None:
    root = get_command(app)

    for name, command in root.commands.items():  # type: ignore[attr-defined]
        assert command.help, name
        for option in command.params:
            assert getattr(option, "help", "") or option.name == "help", f"{name} {option.name}"


def test_every_command_is_in_the_readme_or_the_changelog() -> None:
    root = Path(__file__).parents[2]
    text = (root / "README.md").read_text() + (root / "CHANGELOG.md").read_text()

    for name in get_command(app).commands:  # type: ignore[attr-defined]
        assert name in text, name


def test_train_compose_generate(registry: Path, tmp_path: Path) -> None:
    make_pictures(registry / "data" / "rings", count=6)
    assert (
        lorareg(registry, "new", "style/ring", "--data", "data/rings", "--base", "base").code == 0
    )
    small = ["lora.rank=3", "train.batch_size=2", "train.epochs=1", "train.precision=fp32"]
    set_keys(registry, "style/ring", *small, "sample.steps=2")
    for asset in ("character/dot", "style/ring"):  # --all would start a process for each
        assert lorareg(registry, "train", asset).code == 0

    expression = "style/ring:0.7+dot:-0.5"
    composed = lorareg(
        registry, "compose", expression, "--as", "both", "--output", "exact", "--json"
    )

    assert composed.code == 0, composed.err
    lock = composed.json["lock"]
    assert [m["weight"] for m in lock["members"]] == [0.7, -0.5]
    assert lorareg(registry, "verify", "recipe/both").code == 0
    assert lorareg(registry, "list", "--json").json[1]["asset"] == "recipe/both"
    other = lorareg(registry, "compose", "style/ring+dot", "--as", "both")
    assert other.code == 2
    assert "--overwrite" in other.err
    taken = lorareg(registry, "compose", "dot:0.5", "--as", "ring")
    assert taken.code == 2
    assert "style/ring" in taken.err
    picture = tmp_path / "out.png"
    drawn = lorareg(
        registry, "generate", "recipe/both", "--prompt", "a red zdot", "--grid",
        "--out", str(picture), "--json",
    )  # fmt: skip
    assert drawn.code == 0, drawn.err
    assert picture.is_file()
    beside = json.loads(picture.with_suffix(".json").read_text(encoding="utf-8"))
    assert [sample["of"] for sample in beside["samples"]][0] == "base"
    assert len(beside["samples"]) == 4


def test_equal_fingerprints_give_equal_files_whatever_the_trigger(registry: Path) -> None:
    first = lorareg(registry, "train", "character/dot", "--json").json
    set_keys(registry, "character/dot", "trigger=zother", "weight.default=0.5")

    second = lorareg(registry, "train", "character/dot", "--force", "--json").json

    assert second["trained"]
    assert second["fingerprint"] == first["fingerprint"]
    assert second["outputs"] == first["outputs"]


def test_neither_lock_nor_card_nor_header_tells_where_this_disk_keeps_things(
    registry: Path, tiny_base: Path
) -> None:
    set_keys(registry, "character/dot", f"base.model={tiny_base}", "train.epochs=1")

    assert lorareg(registry, "train", "character/dot").code == 0

    folder = registry / "manifests" / "character" / "dot"
    for path in (folder / "lock.json", folder / "README.md", *folder.glob("weights/*")):
        data = path.read_bytes()
        assert str(tiny_base.parent).encode() not in data
        assert str(registry).encode() not in data


def test_composing_adapters_of_different_bases_is_refused(registry: Path) -> None:
    make_pictures(registry / "data" / "rings", count=6)
    lorareg(registry, "new", "style/ring", "--data", "data/rings", "--base", "base")
    small = ["lora.rank=2", "train.batch_size=4", "train.epochs=1", "train.precision=fp32"]
    set_keys(registry, "style/ring", *small)
    assert lorareg(registry, "train", "style/ring").code == 0
    config = registry / "base" / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("0.012", "0.013").replace("0.02", "0.021"))
    assert lorareg(registry, "train", "character/dot").code == 0

    answer = lorareg(registry, "compose", "style/ring+character/dot")

    assert answer.code == 2
    assert "different bases" in answer.err


def test_doctor_finds_nothing_wrong_here(registry: Path) -> None:
    answer = lorareg(registry, "doctor", "--json")

    assert answer.code == 0, answer.out
    assert {finding["what"] for finding in answer.json} >= {"torch", "device", "DVC remotes"}
