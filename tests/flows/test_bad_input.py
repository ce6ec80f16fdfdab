"""Every mistake gets a clear error: what, why and what to do; and nothing is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from lorareg.registry.yamlfile import load
from tests.flows.conftest import lorareg, set_keys

MANIFEST = "manifests/character/dot/manifest.yaml"
DATA = "data/dots"


def replace(root: Path, old: str, new: str) -> None:
    path = root / MANIFEST
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def remove_captions(root: Path) -> None:
    path = root / DATA / "metadata.csv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[2:]), encoding="utf-8")


def break_picture(root: Path) -> None:
    path = root / DATA / "img03.png"
    path.write_bytes(path.read_bytes()[:60])


def shrink_picture(root: Path) -> None:
    Image.new("RGB", (20, 40)).save(root / DATA / "img05.png")


def empty_dataset(root: Path) -> None:
    shutil.rmtree(root / DATA)
    (root / DATA).mkdir()


def write_gbk(root: Path) -> None:
    text = 'img00.png,"a dot"\nimg01.png,"一个圆点，白色背景"\n'
    (root / DATA / "metadata.csv").write_bytes(text.encode("gbk"))


def case_twin(root: Path) -> None:
    shutil.copy(root / DATA / "img00.png", root / DATA / "IMG00.png")


def hostile_base(root: Path) -> None:
    (root / "model.safetensors").write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    replace(root, 'model: "base"', 'model: "model.safetensors"')


MISTAKES: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "an unknown key": (
        lambda root: replace(root, "lora: {rank", "lora: {rnak: 3, rank"),
        ("lora.rnak", "did you mean rank"),
    ),
    "a value out of range": (
        lambda root: replace(root, "batch_size: 2", "batch_size: 0"),
        ("train.batch_size", "greater than or equal to 1"),
    ),
    "a wrong type": (
        lambda root: replace(root, "epochs: 3", "epochs: many"),
        ("train.epochs", "'many'"),
    ),
    "missing captions": (remove_captions, ("img00.png", "img01.png", "no caption")),
    "a broken picture": (break_picture, ("img03.png", "--skip-broken")),
    "a picture below the minimum side": (shrink_picture, ("img05.png", "20x40", "32")),
    "an empty dataset": (empty_dataset, ("empty",)),
    "captions that are not UTF-8": (write_gbk, ("metadata.csv", "line 2", "GBK")),
    "names that differ only in case": (case_twin, ("IMG00.png", "img00.png", "case")),
    "a pickled base": (
        lambda root: replace(root, 'model: "base"', 'model: "sd.ckpt"'),
        (".ckpt", "safetensors"),
    ),
    "a base that is not there": (
        lambda root: replace(root, 'model: "base"', 'model: "elsewhere"'),
        ("elsewhere", "not here"),
    ),
    "a base of another task": (
        lambda root: (root / "base" / "model_index.json").rename(root / "base" / "config.json"),
        ("does not fit", "text-to-image"),
    ),
    "a hostile base header": (hostile_base, ("model.safetensors", "cut short")),
    "a dataset outside of the registry": (
        lambda root: replace(root, 'path: "data/dots"', 'path: "../dots"'),
        ("dataset.path", "'..'"),
    ),
    "YAML that is none": (
        lambda root: replace(root, "train:", "train: ["),
        ("line", "not valid YAML"),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_before_anything_is_written(mistake: str, registry: Path) -> None:
    make, words = MISTAKES[mistake]
    make(registry)

    answer = lorareg(registry, "train", "character/dot")

    assert answer.code == 2
    for word in words:
        assert word in answer.err
    assert "Traceback" not in answer.err
    assert "\nfix" in answer.err
    assert not (registry / "manifests/character/dot/lock.json").exists()
    assert not (registry / "manifests/character/dot/weights").exists()


@pytest.mark.parametrize(
    "ref", ["../secrets", "/etc/passwd", "character/../dot", "Character/Dot", "a/b/c", "dot@"]
)
def test_a_reference_that_is_no_name_is_refused(ref: str, registry: Path) -> None:
    answer = lorareg(registry, "train", ref)

    assert answer.code == 2
    assert "fix" in answer.err
    assert "Traceback" not in answer.err


def test_an_unknown_name_lists_near_ones(registry: Path) -> None:
    answer = lorareg(registry, "show", "character/dto")

    assert answer.code == 2
    assert "character/dot" in answer.err


def test_broken_pictures_can_be_skipped_by_list(registry: Path) -> None:
    break_picture(registry)
    before = (registry / DATA / "img03.png").read_bytes()

    answer = lorareg(registry, "train", "character/dot", "--skip-broken", "--json")

    assert answer.code == 0, answer.err
    assert load(registry / MANIFEST)["dataset"]["skip"] == ["img03.png"]
    assert (registry / DATA / "img03.png").read_bytes() == before
    assert answer.json["result"]["steps"] == 9


def test_a_wrong_set_leaves_the_manifest_alone(registry: Path) -> None:
    before = (registry / MANIFEST).read_text(encoding="utf-8")

    answer = lorareg(registry, "train", "character/dot", "--set", "lora.rank=-1")

    assert answer.code == 2
    assert (registry / MANIFEST).read_text(encoding="utf-8") == before


@pytest.mark.parametrize("change", ["name=other", "kind=style", "..=1", "lora.=1", "lora.x.y=1"])
def test_a_change_that_would_orphan_the_asset_is_refused(change: str, registry: Path) -> None:
    before = (registry / MANIFEST).read_text(encoding="utf-8")

    answer = lorareg(registry, "train", "character/dot", "--set", change)

    assert answer.code == 2
    assert "fix" in answer.err
    assert (registry / MANIFEST).read_text(encoding="utf-8") == before


@pytest.mark.parametrize("folder", [".git", ".dvc", "manifests", ".lorareg"])
def test_the_registrys_own_folders_are_no_dataset(folder: str, registry: Path) -> None:
    (registry / folder).mkdir(exist_ok=True)

    answer = lorareg(registry, "new", "style/own", "--data", folder, "--base", "base")

    assert answer.code == 2
    assert "registry itself" in answer.err
    assert not (registry / "manifests/style").exists()
    assert not (registry / f"{folder}.dvc").exists()


def test_what_the_system_refuses_is_three_lines_too(registry: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    answer = lorareg(tmp_path, "init", "file/registry")

    assert answer.code == 2
    assert "Not a directory" in answer.err or "File exists" in answer.err


def test_one_broken_manifest_does_not_hide_the_others(registry: Path) -> None:
    broken = registry / "manifests" / "style" / "bad"
    broken.mkdir(parents=True)
    (broken / "manifest.yaml").write_text("schema: [", encoding="utf-8")

    answer = lorareg(registry, "status", "--json")

    assert answer.code == 1
    assert {each["asset"]: each["state"] for each in answer.json} == {
        "character/dot": "untrained",
        "style/bad": "invalid",
    }


def test_set_keeps_the_comments_of_the_manifest(registry: Path) -> None:
    path = registry / MANIFEST
    path.write_text("# mine\n" + path.read_text(encoding="utf-8"), encoding="utf-8")

    set_keys(registry, "character/dot", "lora.rank=3")

    text = path.read_text(encoding="utf-8")
    assert text.startswith("# mine\n")
    assert "rank: 3" in text


def test_new_does_not_overwrite(registry: Path) -> None:
    answer = lorareg(registry, "new", "character/dot", "--data", DATA, "--base", "base")

    assert answer.code == 2
    assert "exists already" in answer.err


def test_outside_of_a_registry_the_error_says_how_to_make_one(tmp_path: Path) -> None:
    answer = lorareg(tmp_path, "list")

    assert answer.code == 2
    assert "lorareg init" in answer.err
