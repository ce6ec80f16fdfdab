"""An adapter grows out of another one: trained, shared, looked at, made again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorareg.weights import algebra
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.formats import diffusers
from tests.flows.conftest import git, lorareg, make_registry, set_keys

DOT, RING = "manifests/character/dot", "manifests/style/ring"


def weights(root: Path, folder: str) -> LoraAdapter:
    return diffusers.read(root / folder / "weights" / diffusers.FILE)


def lock_of(root: Path, folder: str = RING) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / folder / "lock.json").read_text(encoding="utf-8"))
    return found


def train(root: Path, name: str, *options: str) -> tuple[bool, str]:
    """Whether anything was trained, and what was said."""
    answer = lorareg(root, "train", name, *options, "--json")
    assert answer.code == 0, answer.err
    return answer.json["trained"], answer.err


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """Origin and storage of a registry where style/ring, rank 5, grew out of dot, rank 2."""
    top = tmp_path_factory.mktemp("line")
    root = make_registry(top, tiny_base)
    assert lorareg(root, "train", "character/dot").code == 0
    new = lorareg(root, "new", "style/ring", "--data", "data/dots", "--base", "base")
    assert new.code == 0, new.err
    small = ["train.batch_size=2", "train.epochs=1", "train.precision=fp32", "sample.steps=2"]
    set_keys(root, "style/ring", "lora.rank=5", "lora.alpha=3", "parent=character/dot", *small)
    trained = lorareg(root, "train", "style/ring")
    assert trained.code == 0, trained.err
    assert "started from character/dot, rank 2 -> 5, delta error" in trained.err
    assert lorareg(root, "push").code == 0
    return top


@pytest.fixture
def mate(shared: Path, tmp_path: Path) -> Path:
    """A fresh clone, without anybody's bytes."""
    root = tmp_path / "mate"
    git(tmp_path, "clone", "--quiet", str(shared / "origin.git"), str(root))
    git(root, "config", "user.name", "Mate")
    git(root, "config", "user.email", "mate@example.org")
    return root


def test_the_lock_and_the_card_name_the_parent(mate: Path) -> None:
    lock, parent = lock_of(mate), lock_of(mate, DOT)

    (tensors,) = (x["tensors"] for x in parent["outputs"].values() if x["tensors"])
    assert lock["inputs"]["parent"] == {"ref": "character/dot", "tensors": tensors}
    (member,) = lock["parents"]
    assert (member["ref"], member["tensors"]) == ("character/dot", tensors)
    assert len(member["commit"]) == 40
    assert "| parent | `character/dot` |" in (mate / RING / "README.md").read_text("utf-8")
    shown = lorareg(mate, "show", "style/ring")
    assert "lineage  style/ring <- character/dot" in shown.out
    assert lorareg(mate, "show", "style/ring", "--json").json["lineage"] == ["character/dot"]
    assert lock["fingerprint"] != parent["fingerprint"]


def test_a_child_is_pulled_and_verified_without_the_parents_bytes(mate: Path) -> None:
    assert lorareg(mate, "pull", "style/ring").code == 0

    assert not (mate / DOT / "weights").exists()
    assert lorareg(mate, "verify", "style/ring").code == 0
    status = lorareg(mate, "status", "style/ring", "--json")
    assert status.json[0]["state"] == "up-to-date", status.json
    trained, _ = train(mate, "style/ring")
    assert not trained


def test_the_child_still_is_what_its_parent_was_and_a_little_more(mate: Path) -> None:
    assert lorareg(mate, "pull").code == 0

    parent, child = weights(mate, DOT), weights(mate, RING)

    assert child.layers.keys() == parent.layers.keys()
    assert {layer.rank for layer in child.layers.values()} == {5}
    assert algebra.cosine(child, parent) > 0.9
    new = [float(np.abs(layer.up[:, 2:]).max()) for layer in child.layers.values()]
    assert min(new) > 0


def test_a_teammate_makes_the_child_again_with_the_parent_from_the_cache(mate: Path) -> None:
    assert lorareg(mate, "pull", "style/ring").code == 0

    again = lorareg(mate, "reproduce", "style/ring", "--json")

    assert again.code == 0, again.err
    assert again.json["verdict"] == "identical"
    assert not (mate / DOT / "weights").exists()
    assert git(mate, "status", "--porcelain") == ""


def test_reproducing_without_the_parents_bytes_says_which_are_missing(
    mate: Path, shared: Path, tmp_path: Path
) -> None:
    storage = tmp_path / "storage"
    shutil.copytree(shared / "storage", storage)
    listing = (mate / DOT / "weights.dvc").read_text("utf-8").partition("md5: ")[2].split()[0]
    lost = next(path for path in storage.rglob("*.dir") if listing.endswith(path.name))
    lost.chmod(0o644)
    lost.unlink()
    assert lorareg(mate, "init", "--remote", str(storage)).code == 0

    again = lorareg(mate, "reproduce", "style/ring")

    assert again.code == 2
    assert "the weights of character/dot, the parent of style/ring, cannot be had" in again.err
    assert "lorareg push character/dot" in again.err


def test_a_release_is_a_start_that_stays(mate: Path) -> None:
    assert lorareg(mate, "pull").code == 0
    git(mate, "tag", "-m", "first", "character/dot@v1.0.0")
    before = weights(mate, DOT)
    set_keys(mate, "character/dot", "train.epochs=1", "lora.rank=4")
    assert lorareg(mate, "train", "character/dot").code == 0
    status = lorareg(mate, "status", "style/ring", "--json").json[0]
    assert status["reasons"] == ["parent: character/dot has other weights now"]

    trained, _ = train(mate, "style/ring", "--from", "dot@v1.0.0")

    # the very tensors it was trained from: only its manifest says so in other words now
    assert not trained
    set_keys(mate, "style/ring", "lora.rank=1")
    trained, said = train(mate, "style/ring")
    assert trained
    (sentence,) = (line for line in said.splitlines() if "started from" in line)
    assert sentence.strip().startswith("started from character/dot@v1.0.0, rank 2 -> 1, ")
    assert sentence.endswith(" % of the energy lost")
    assert algebra.cosine(weights(mate, RING), before) > 0.5
    assert lock_of(mate)["parents"][0]["ref"] == "character/dot@v1.0.0"
    assert lorareg(mate, "status", "style/ring", "--json").json[0]["state"] == "up-to-date"
    assert git(mate, "worktree", "list").count("\n") == 1


def test_a_file_is_a_start_that_only_its_owner_can_repeat(mate: Path, tmp_path: Path) -> None:
    assert lorareg(mate, "pull").code == 0
    file = tmp_path / "private" / "old.safetensors"
    file.parent.mkdir()
    shutil.copy(mate / DOT / "weights" / diffusers.FILE, file)
    manifest = mate / RING / "manifest.yaml"
    text = manifest.read_text("utf-8")
    manifest.write_text(text.replace("parent: character/dot\n", ""), encoding="utf-8")

    trained, said = train(mate, "style/ring", "--from", str(file))

    assert trained
    assert "nothing says which base it was trained on" in " ".join(said.split())
    parent = lock_of(mate)["inputs"]["parent"]
    assert (parent["ref"], parent["file"]) == ("old.safetensors", True)
    assert lock_of(mate)["parents"] == []
    assert str(tmp_path) not in (mate / RING / "lock.json").read_text("utf-8")
    assert "cannot be made again without it" in (mate / RING / "README.md").read_text("utf-8")
    assert lorareg(mate, "status", "style/ring", "--json").json[0]["state"] == "up-to-date"
    trained, _ = train(mate, "style/ring")
    assert not trained
    git(mate, "add", "--all")
    git(mate, "commit", "--quiet", "-m", "from a file")
    again = lorareg(mate, "reproduce", "style/ring")
    assert again.code == 2
    assert "started from the file old.safetensors" in again.err
    set_keys(mate, "style/ring", "lora.rank=3")
    lost = lorareg(mate, "train", "style/ring")
    assert lost.code == 2
    assert "--from old.safetensors" in lost.err
