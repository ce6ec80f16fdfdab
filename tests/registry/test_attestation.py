"""Who made an adapter again: what is signed is shown, what is forged is never counted."""

from __future__ import annotations

import datetime
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorareg.errors import LoraregError
from lorareg.registry import attestation, attesting, verify
from lorareg.registry.access import policy, signing
from lorareg.registry.attestation import Attestation, Statement, promised
from lorareg.registry.attesting import Signer
from lorareg.registry.ids import AssetId
from lorareg.registry.lock import TrainedLock
from lorareg.registry.workspace import Workspace
from tests.flows.conftest import git, lorareg
from tests.weights.composed import Shelf
from tests.weights.planted import SMALL, sharing

ASSET = AssetId("character", "zhangsan")
(DELTA,) = sharing(SMALL, [2], 0.0)
POLICY = """schema: lorareg/1
people: {alice: {}, carol: {}}
roles: {maintainer: [carol]}
"""
Attest = Callable[..., Attestation]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the keys of alice, carol and mallory."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("alice", "carol", "mallory"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", folder / name]
        subprocess.run(command, check=True)
    return folder


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Path:
    """A registry of alice and carol with one adapter; git, no DVC."""
    root = tmp_path_factory.mktemp("attested") / "registry"
    root.mkdir()
    (root / "lorareg.yaml").write_text("schema: lorareg/1\nname: scratch\n", encoding="utf-8")
    git(root.parent, "init", "--quiet", "--initial-branch=main", str(root))
    Shelf(root).add(str(ASSET), DELTA, title={"zh": "张三"}, trigger="zz")
    (root / "manifests/character/zhangsan/README.md").write_text("a card\n", encoding="utf-8")
    (root / "manifests/policy.yaml").write_text(POLICY, encoding="utf-8")
    lines = [f"{name} {(keys / f'{name}.pub').read_text()}" for name in ("alice", "carol")]
    (root / "manifests/allowed_signers").write_text("".join(lines), encoding="utf-8")
    (root / ".gitignore").write_text(".lorareg/\n", encoding="utf-8")
    become(root, keys, "alice")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "-m", "one adapter")
    return root


def become(root: Path, keys: Path, name: str, called: str = "") -> None:
    git(root, "config", "user.name", called or name)
    git(root, "config", "user.email", f"{name}@example.org")
    git(root, "config", "gpg.format", "ssh")
    git(root, "config", "user.signingKey", str(keys / f"{name}.pub"))


@pytest.fixture
def workspace(template: Path, tmp_path: Path) -> Workspace:
    root = tmp_path / "registry"
    shutil.copytree(template, root, symlinks=True)
    return Workspace(root)


def statement(workspace: Workspace, **told: Any) -> Statement:
    known = workspace.load_lock(ASSET)
    assert isinstance(known, TrainedLock)
    words: dict[str, Any] = {
        "asset": str(ASSET), "version": None, "commit": "a" * 40, "by": "nobody",
        "fingerprint": known.fingerprint, "outputs": promised(known), "verdict": "identical",
        "environment": known.environment, "differences": (), "date": datetime.date(2026, 11, 22),
    }  # fmt: skip
    return Statement(**words | told)


def attest(workspace: Workspace, **told: Any) -> Attestation:
    attesting.publish(workspace, statement(workspace, **told), attesting.signer(workspace))
    return only(workspace)


def only(workspace: Workspace) -> Attestation:
    (found,) = attestation.load_all(workspace, ASSET)
    return found


def file(workspace: Workspace, who: str = "alice") -> Path:
    return workspace.folder(ASSET).attestations / f"{who}.json"


def edit(path: Path, **told: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | told), encoding="utf-8")


def test_a_person_of_the_policy_is_believed(workspace: Workspace) -> None:
    found = attest(workspace)

    assert (found.who, found.verified, found.counts) == ("alice", True, True)
    assert found.sentence == (
        "reproduced by alice on Linux, torch 2.13.0: identical, 2026-11-22, signature good"
    )


def test_it_is_committed_with_the_card_and_nothing_else(workspace: Workspace) -> None:
    (workspace.root / "stray.txt").write_text("mine", encoding="utf-8")

    attest(workspace)

    files = git(workspace.root, "show", "--name-only", "--format=%s").split("\n")
    assert files[0] == "alice made character/zhangsan again: identical"
    names = {Path(name).name for name in files[1:] if name}
    assert names == {"alice.json", "README.md"}
    card = workspace.folder(ASSET).card.read_text("utf-8")
    assert "## Reproduced by\n\n- Reproduced by alice" in card


@pytest.mark.parametrize(
    "told",
    [
        {"verdict": "identical"},
        {"date": "2026-11-23"},
        {"outputs": {}},
        {"differences": ["torch: 1 -> 2"]},
        {"commit": "b" * 40},
        {"signature": ""},
        {"by": "carol"},
        {"extra": 1},
    ],
)
def test_an_edited_one_is_shown_as_forged_and_never_counted(
    workspace: Workspace, told: dict[str, Any]
) -> None:
    attest(workspace, verdict="close")

    edit(file(workspace), **told)
    found = only(workspace)

    assert (found.standing, found.counts) == ("forged", False)
    assert "NOT VALID" in found.sentence
    findings = {f.what: f for f in verify.verify(workspace, ASSET)}
    assert not findings["attestations/alice.json"].ok
    assert "git rm manifests/character/zhangsan/" in findings["attestations/alice.json"].fix


def test_nobody_attests_in_the_name_of_another(workspace: Workspace, keys: Path) -> None:
    mallory = signing.Key(keys / "mallory", (keys / "mallory.pub").read_text("utf-8"))
    attesting.publish(workspace, statement(workspace), Signer("alice", mallory))

    found = only(workspace)

    assert (found.standing, found.counts) == ("forged", False)
    assert "which is not alice" in found.sentence
    assert "Reproduced by" not in workspace.folder(ASSET).card.read_text("utf-8")


def test_a_policy_that_is_not_committed_is_not_believed(workspace: Workspace, keys: Path) -> None:
    become(workspace.root, keys, "mallory")
    signers = workspace.root / policy.SIGNERS
    mine = f"mallory {(keys / 'mallory.pub').read_text()}"
    signers.write_text(signers.read_text("utf-8") + mine, encoding="utf-8")

    found = attest(workspace)

    assert (found.who, found.standing) == ("mallory", "unnamed")


def test_a_stranger_is_named_by_his_key(workspace: Workspace, keys: Path) -> None:
    become(workspace.root, keys, "mallory", called="Dr. Mallory Ö. Smith")

    found = attest(workspace)

    assert (found.who, found.standing, found.counts) == ("dr-mallory-o-smith", "unnamed", False)
    public = (keys / "mallory.pub").read_text("utf-8")
    assert f"signed by {signing.fingerprint(public)}, whom no policy names" in found.sentence
    assert all(f.ok for f in attestation.findings(workspace, ASSET))


def test_a_name_without_latin_letters_gives_way_to_the_address(
    workspace: Workspace, keys: Path
) -> None:
    become(workspace.root, keys, "mallory", called="张三")

    assert attesting.signer(workspace).name == "mallory"


def test_a_strange_key_under_the_name_of_a_person_is_refused_before_the_run(
    workspace: Workspace, keys: Path
) -> None:
    become(workspace.root, keys, "mallory", called="Alice")

    with pytest.raises(LoraregError, match="not that of alice"):
        attesting.signer(workspace)


def test_without_a_key_there_is_no_attestation(workspace: Workspace) -> None:
    git(workspace.root, "config", "--unset", "user.signingKey")

    answer = lorareg(workspace.root, "reproduce", str(ASSET), "--attest")

    assert answer.code == 2
    assert "git config gpg.format ssh" in answer.err


@pytest.mark.parametrize("change", ["fingerprint", "weights"])
def test_one_of_an_earlier_state_says_so(workspace: Workspace, change: str) -> None:
    attest(workspace)
    path = workspace.folder(ASSET).lock
    document = json.loads(path.read_text("utf-8"))
    if change == "fingerprint":
        document["fingerprint"] = document["fingerprint"][:-4] + "0000"
    else:
        (output,) = document["outputs"].values()
        output["sha256"] = "sha256:" + "0" * 64
    path.write_text(json.dumps(document), encoding="utf-8")

    found = only(workspace)

    assert (found.verified, found.is_current, found.counts) == (True, False, False)
    assert found.sentence.endswith("of an earlier state")


def test_a_run_that_came_out_otherwise_is_told_and_does_not_count(workspace: Workspace) -> None:
    found = attest(workspace, verdict="differs", environment=None, version="v1.0.0")

    assert found.sentence.startswith("not reproduced (v1.0.0) by alice: differs")
    assert (found.verified, found.counts) == (True, False)


def test_one_of_another_asset_is_none_of_this(workspace: Workspace) -> None:
    attest(workspace, asset="character/zhangsan")
    text = file(workspace).read_text("utf-8")
    Shelf(workspace.root).add("character/lisi", DELTA)
    other = workspace.folder(AssetId("character", "lisi")).attestations / "alice.json"
    other.parent.mkdir()
    other.write_text(text, encoding="utf-8")

    (found,) = attestation.load_all(workspace, AssetId("character", "lisi"))

    assert (found.standing, found.counts) == ("forged", False)


def test_a_signature_of_something_else_is_none(workspace: Workspace, keys: Path) -> None:
    attest(workspace)
    said = statement(workspace, by="alice")
    key = signing.key(workspace.root)
    signature = signing.sign(key, said.payload(), signing.NAMESPACE)
    edit(file(workspace), signature=signature)

    assert only(workspace).standing == "forged"


@pytest.mark.parametrize("broken", ["{", "[]", '{"a": 1, "a": 2}', "link"])
def test_a_file_that_is_none_is_named(workspace: Workspace, broken: str) -> None:
    attest(workspace)
    path = file(workspace)
    if broken == "link":
        path.symlink_to(path.rename(workspace.root / "elsewhere.json"))
    else:
        path.write_text(broken, encoding="utf-8")

    found = only(workspace)

    assert (found.statement, found.counts) == (None, False)
    assert found.sentence.startswith("attestation of alice: NOT VALID")


def test_nothing_is_written_through_a_link(workspace: Workspace, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    workspace.folder(ASSET).attestations.symlink_to(outside)

    with pytest.raises(LoraregError):
        attest(workspace)

    assert list(outside.iterdir()) == []


def test_show_tells_it_to_people_and_programs(workspace: Workspace) -> None:
    attest(workspace)

    shown = lorareg(workspace.root, "show", str(ASSET))
    told = lorareg(workspace.root, "show", str(ASSET), "--json").json["attestations"]

    assert "reproduced by alice on Linux" in shown.out
    assert [(each["by"], each["verified"], each["counts"]) for each in told] == [
        ("alice", True, True)
    ]
