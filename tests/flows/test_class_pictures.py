"""Class pictures and masks in a registry: tracked, shared, verified, reproduced, checked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lorareg.registry.workspace import Workspace
from tests.flows.conftest import git, lorareg, make_pictures, make_registry, set_keys


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """Folder with a registry that learned dots beside class pictures, its origin and storage."""
    top = tmp_path_factory.mktemp("team")
    root = make_registry(top, tiny_base)
    make_pictures(root / "data" / "class", count=3, side=48)
    for picture in (root / "data/dots").glob("*.png"):
        mask = root / "data/dots/masks" / picture.name
        mask.parent.mkdir(exist_ok=True)
        Image.linear_gradient("L").resize((32, 32)).save(mask)
    Workspace(root).store.track(root / "data/dots")
    set_keys(
        root, "character/dot", "train.prior={path: data/class, caption: a dot}",
        "train.masked_loss={source: masks}", "train.epochs=2",
        "train.buckets={step: 8}", "train.resolution=32", "train.flip=true", "train.tags={}",
    )  # fmt: skip
    trained = lorareg(root, "train", "character/dot", "--json")
    assert trained.code == 0, trained.err
    assert lorareg(root, "push").code == 0
    return top


@pytest.fixture
def registry(shared: Path, tmp_path: Path) -> Path:
    """A copy of that registry."""
    shutil.copytree(shared / "registry", tmp_path / "registry", symlinks=True)
    return tmp_path / "registry"


@pytest.fixture
def clone(shared: Path, tmp_path: Path) -> Path:
    """A teammate's clone of it, without the bytes."""
    root = tmp_path / "teammate"
    git(tmp_path, "clone", "--quiet", str(shared / "origin.git"), str(root))
    return root


def lock_of(root: Path) -> Any:
    return json.loads((root / "manifests/character/dot/lock.json").read_text(encoding="utf-8"))


def status(root: Path) -> Any:
    return lorareg(root, "status", "--json").json[0]


def test_the_lock_names_the_class_pictures(shared: Path) -> None:
    inputs = lock_of(shared / "registry")["inputs"]

    prior = inputs["prior"]
    assert (prior["path"], prior["records"], prior["files"]) == ("data/class", 3, 4)
    assert inputs["dataset"]["records"] == 8
    assert inputs["dataset"]["files"] == 17


def test_a_clone_gets_the_class_pictures_verified(clone: Path) -> None:
    assert not (clone / "data/class").exists()

    pulled = lorareg(clone, "pull", "--json")

    assert pulled.code == 0, pulled.err
    assert pulled.json["verified"] == {"character/dot": 1 + 17 + 4}
    assert len(list((clone / "data/class").glob("*.png"))) == 3
    assert lorareg(clone, "verify").code == 0
    assert status(clone)["state"] == "up-to-date"


def test_a_clone_reproduces_to_the_bit(clone: Path) -> None:
    """``reproduce`` fetches what it needs: the clean checkout has neither data nor weights."""
    again = lorareg(clone, "reproduce", "character/dot", "--json")

    assert again.code == 0, again.err
    assert again.json["verdict"] == "identical"


def test_class_pictures_that_are_in_git_itself_are_reproduced(registry: Path) -> None:
    (registry / "data/class.dvc").unlink()
    ignored = registry / "data/.gitignore"
    ignored.write_text(ignored.read_text(encoding="utf-8").replace("/class\n", ""))
    git(registry, "add", "--all", "data")
    git(registry, "commit", "--quiet", "-m", "class pictures without DVC")

    answer = lorareg(registry, "reproduce", "character/dot", "--json")

    assert answer.code == 0, answer.err
    assert answer.json["verdict"] == "identical"


def test_a_changed_class_picture_is_named(registry: Path) -> None:
    Image.new("RGB", (48, 48), "red").save(registry / "data/class/img00.png")

    found = status(registry)

    assert found["state"] == "stale"
    assert found["reasons"] == ["prior: data/class: img00.png changed"]


def test_an_up_to_date_adapter_is_not_trained_again(registry: Path) -> None:
    again = lorareg(registry, "train", "character/dot", "--json")

    assert (again.code, again.json["trained"]) == (0, False)


def test_another_weight_of_the_class_pictures_is_named(registry: Path) -> None:
    set_keys(registry, "character/dot", "train.prior.weight=0.5")

    assert status(registry)["reasons"] == ["train.prior.weight: 1.0 -> 0.5"]


def test_a_painted_mask_is_named(registry: Path) -> None:
    Image.new("L", (32, 32), 255).save(registry / "data/dots/masks/img00.png")

    assert status(registry)["reasons"] == ["data/dots: masks/img00.png changed"]


def test_class_pictures_that_are_not_there_are_an_error_with_a_way_out(registry: Path) -> None:
    shutil.rmtree(registry / "data/class")

    trained = lorareg(registry, "train", "character/dot", "--restart")

    assert trained.code == 2
    assert "no class pictures at data/class/" in trained.err
    assert "lorareg pull character/dot" in trained.err


def test_masks_are_no_pictures_to_the_check(registry: Path) -> None:
    report = lorareg(registry, "data", "check", "character/dot", "--json").json

    assert report["records"] == 8
    assert not [finding for finding in report["findings"] if "masks" in str(finding["files"])]


def test_class_pictures_that_were_changed_in_the_storage_are_refused(
    clone: Path, shared: Path, tmp_path: Path
) -> None:
    index = json.loads((clone / "manifests/character/dot/dataset.json").read_text())
    assert sorted(index["prior"]) == ["img00.png", "img01.png", "img02.png", "metadata.csv"]
    index["prior"]["img00.png"] = f"sha256:{0:064x}"
    (clone / "manifests/character/dot/dataset.json").write_text(json.dumps(index))

    pulled = lorareg(clone, "pull")

    assert pulled.code == 2
    assert "dataset.json does not belong to lock.json" in pulled.err
    assert not (clone / "data/class").exists()
