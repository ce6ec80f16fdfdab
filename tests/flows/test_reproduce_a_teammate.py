"""The promise of the project as a story: one trains and pushes, another pulls and reproduces."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.flows.conftest import Answer, git, lorareg, make_registry


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """Folder with a trained, pushed registry, its origin and its storage."""
    top = tmp_path_factory.mktemp("team")
    root = make_registry(top, tiny_base)
    trained = lorareg(root, "train", "character/dot", "--json")
    assert trained.code == 0, trained.err
    assert lorareg(root, "push").code == 0
    return top


@pytest.fixture
def teammate(shared: Path, tmp_path: Path) -> Path:
    """A fresh clone of the origin, on the same machine."""
    root = tmp_path / "teammate"
    git(tmp_path, "clone", "--quiet", str(shared / "origin.git"), str(root))
    git(root, "config", "user.name", "Mate")
    git(root, "config", "user.email", "mate@example.org")
    return root


def lock_of(root: Path) -> dict[str, object]:
    text = (root / "manifests/character/dot/lock.json").read_text(encoding="utf-8")
    found: dict[str, object] = json.loads(text)
    return found


def reproduce(root: Path) -> Answer:
    return lorareg(root, "reproduce", "character/dot", "--json")


def test_a_clone_has_no_bytes_and_says_so(teammate: Path) -> None:
    status = lorareg(teammate, "status", "--json")

    assert status.code == 1
    assert status.json[0]["state"] == "missing"


def test_a_pulled_adapter_verifies_and_reproduces_to_the_bit(teammate: Path) -> None:
    assert lorareg(teammate, "pull").code == 0
    assert lorareg(teammate, "verify").code == 0
    assert lorareg(teammate, "status", "--json").json[0]["state"] == "up-to-date"

    again = reproduce(teammate)

    assert again.code == 0, again.err
    assert again.json["verdict"] == "identical"
    assert git(teammate, "status", "--porcelain") == ""
    assert git(teammate, "worktree", "list").count("\n") == 1


def test_a_release_made_again_is_attested_for_all_to_see(teammate: Path, tmp_path: Path) -> None:
    assert lorareg(teammate, "pull").code == 0
    git(teammate, "tag", "character/dot@v1.0.0")
    key = tmp_path / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    git(teammate, "config", "user.signingKey", f"{key}.pub")
    git(teammate, "config", "gpg.format", "ssh")
    captions = teammate / "data/dots/metadata.csv"
    captions.write_bytes(captions.read_bytes().replace(b"a blue", b"A blue"))

    again = lorareg(teammate, "reproduce", "character/dot@^1.0", "--attest", "--json")

    assert again.code == 0, again.err
    assert (again.json["verdict"], again.json["version"]) == ("identical", "v1.0.0")
    assert again.json["commit"] == git(teammate, "rev-parse", "character/dot@v1.0.0").strip()
    assert again.json["attestation"] == "manifests/character/dot/attestations/mate.json"
    assert git(teammate, "log", "-1", "--format=%s").startswith("mate made character/dot again")
    shown = lorareg(teammate, "show", "character/dot").out
    assert "reproduced (v1.0.0) by mate on Linux, torch 2" in shown
    assert "whom no policy names" in shown
    card = (teammate / "manifests/character/dot/README.md").read_text("utf-8")
    assert "## Reproduced by" in card


def test_training_in_a_second_clone_gives_the_same_file(teammate: Path) -> None:
    assert lorareg(teammate, "pull").code == 0
    before = lock_of(teammate)["outputs"]

    trained = lorareg(teammate, "train", "character/dot", "--restart", "--json")

    assert trained.code == 0, trained.err
    assert trained.json["trained"]
    assert trained.json["outputs"] == before


def test_one_changed_caption_byte_is_named(teammate: Path) -> None:
    assert lorareg(teammate, "pull").code == 0
    captions = teammate / "data/dots/metadata.csv"
    captions.write_bytes(captions.read_bytes().replace(b"a blue", b"A blue"))

    again = reproduce(teammate)

    assert again.code == 1
    assert again.json["verdict"] == "differs"
    assert again.json["reasons"][0] == "data/dots: caption of img02.png changed"


def test_a_committed_caption_change_is_named_too(teammate: Path) -> None:
    assert lorareg(teammate, "pull").code == 0
    captions = teammate / "data/dots/metadata.csv"
    captions.write_bytes(captions.read_bytes().replace(b"a blue", b"A blue"))
    assert lorareg(teammate, "push").code == 0

    again = reproduce(teammate)

    assert again.json["verdict"] == "differs"
    assert "caption of img02.png changed" in again.json["reasons"][0]
    git(teammate, "push", "--quiet", "--force", "origin", "HEAD~1:main")


def test_a_changed_rank_is_named(teammate: Path) -> None:
    assert lorareg(teammate, "pull").code == 0
    manifest = teammate / "manifests/character/dot/manifest.yaml"
    manifest.write_text(manifest.read_text().replace("rank: 2", "rank: 3"), encoding="utf-8")

    status = lorareg(teammate, "status", "--json")

    assert status.json[0]["state"] == "stale"
    assert "lora.rank: 2 -> 3" in status.json[0]["reasons"]


@pytest.mark.parametrize("what", ["weights", "picture"])
def test_a_flipped_byte_on_the_remote_is_refused(
    what: str, shared: Path, teammate: Path, tmp_path: Path
) -> None:
    tampered = tmp_path / "storage"
    shutil.copytree(shared / "storage", tampered)
    files = [path for path in tampered.rglob("*") if path.is_file() and path.suffix != ".dir"]
    wanted = b"lorareg.fingerprint" if what == "weights" else b"\x89PNG"
    victim = next(path for path in files if wanted in path.read_bytes())
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.chmod(0o644)
    victim.write_bytes(data)
    assert lorareg(teammate, "init", "--remote", str(tampered)).code == 0

    pulled = lorareg(teammate, "pull", "--no-git")

    assert pulled.code == 2
    assert "refused" in pulled.err
    assert ("pytorch_lora_weights.safetensors" if what == "weights" else "img") in pulled.err
    assert not (teammate / "manifests/character/dot/weights").exists()
    assert not list((teammate / "data").glob("dots/*.png")) or what == "weights"


def test_a_dataset_index_that_is_not_the_locks_is_refused(teammate: Path) -> None:
    index = teammate / "manifests/character/dot/dataset.json"
    index.write_text('{"files": {}, "records": {}}', encoding="utf-8")

    pulled = lorareg(teammate, "pull", "--no-git")

    assert pulled.code == 2
    assert "dataset.json does not belong to lock.json" in pulled.err
    assert lorareg(teammate, "verify").code == 1


def test_weights_changed_after_training_are_not_pushed(teammate: Path) -> None:
    assert lorareg(teammate, "pull").code == 0
    file = teammate / "manifests/character/dot/weights/pytorch_lora_weights.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)

    pushed = lorareg(teammate, "push")

    assert pushed.code == 2
    assert "does not match its lock" in pushed.err
    assert lorareg(teammate, "status", "--json").json[0]["state"] == "modified"


def test_training_again_without_a_change_does_nothing(teammate: Path) -> None:
    assert lorareg(teammate, "pull").code == 0

    again = lorareg(teammate, "train", "character/dot", "--json")

    assert again.code == 0
    assert not again.json["trained"]


def test_a_teammate_without_git_history_can_reproduce_from_a_url(shared: Path) -> None:
    url = str(shared / "origin.git")

    again = lorareg(shared, "reproduce", "character/dot", "--repo", url, "--json")

    assert again.code == 0, again.err
    assert again.json["verdict"] == "identical"
