"""From one registry to the Hub, and from there into another one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lorareg.errors import IntegrityError, InvalidFileError, LoraregError
from lorareg.registry import tensors
from lorareg.registry.access import policy, signatures
from lorareg.registry.bases import base as bases
from lorareg.registry.digest import DigestCache, of_file
from lorareg.registry.ids import AssetId
from lorareg.registry.lock import ImportedLock
from lorareg.registry.manifest import Base
from lorareg.registry.releases import release
from lorareg.registry.tensors import tensor_digest
from lorareg.registry.workspace import Workspace
from lorareg.weights import hub_import, signature
from lorareg.weights.adapter import LoraAdapter, LoraLayer
from lorareg.weights.formats import kohya
from tests.flows.conftest import git, lorareg
from tests.hubserver import HubServer
from tests.registry.published import NAME, OPEN, REPO, VERSION, WEIGHTS, Press
from tests.registry.releases.team import POLICY, allowed, introduce, relock
from tests.started import start
from tests.weights.composed import Shelf

AVATAR = Base(model="builtin:avatar")
FOREIGN = "artist/ink"


def for_avatar(seed: int = 0) -> LoraAdapter:
    """Weights of two modules that the built-in base has."""
    root = Path.cwd()
    found = bases.resolve(AVATAR, "text-to-image", root, DigestCache(None))
    shapes = signature.of(found) or {}
    names = sorted(name for name in shapes if name.endswith(("attn1.to_q", "attn2.to_v")))[:2]
    random = np.random.default_rng(seed)

    def layer(shape: tuple[int, ...]) -> LoraLayer:
        down = random.standard_normal((2, *shape[1:])).astype(np.float32)
        return LoraLayer(down, random.standard_normal((shape[0], 2)).astype(np.float32), 2.0)

    return LoraAdapter({name: layer(shapes[name]) for name in names})


@pytest.fixture
def press(tmp_path: Path) -> Press:
    """alice's registry with one release, and the Hub."""
    root = tmp_path / "alice"
    root.mkdir()
    made = Press.make(root, "bases: {text-to-image: 'builtin:avatar'}\n")
    made.shelf.add(NAME, for_avatar(), **{**OPEN, "publish": {"hub": REPO, "gated": "manual"}})
    made.release()
    return made


@pytest.fixture(scope="module")
def with_dvc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty registry of somebody else."""
    root = tmp_path_factory.mktemp("bob") / "registry"
    start(root)
    git(root, "config", "user.name", "Bob")
    git(root, "config", "user.email", "bob@example.org")
    return root


@pytest.fixture
def bob(with_dvc: Path, tmp_path: Path) -> Workspace:
    root = tmp_path / "bob"
    shutil.copytree(with_dvc, root)
    return Workspace(root)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def as_bob(press: Press) -> Iterator[Press]:
    """The client of this process speaks for somebody who is not of the studio."""
    with press.hub.in_process(press.hub.add_user("bob-elsewhere")):
        yield press


def put_up(press: Press) -> None:
    """The release is on the Hub, and bob is let in."""
    press.publish()
    press.hub.add_user("bob-elsewhere")
    with press.hub.in_process(press.token):
        from lorareg.registry.publishing import gate

        gate.grant(REPO, "bob-elsewhere")


def test_the_command_tells_what_it_would_do_then_does_it(press: Press) -> None:
    with press.hub.in_process(press.token):
        told = lorareg(press.shelf.root, "publish", NAME, "--dry-run", "--json").json
        assert press.hub.calls() == []
        plain = lorareg(press.shelf.root, "publish", "zhangsan")
        again = lorareg(press.shelf.root, "publish", f"{NAME}@{VERSION}", "--json").json

    assert [step.split()[0] for step in told["steps"]] == ["create", "upload", "tag", "make"]
    assert plain.out.startswith(f"{NAME}@{VERSION} published {REPO} (public, gated: manual)")
    assert "read back and verified 1 files" in plain.err
    assert (again["steps"], again["commit"]) == ([], press.hub.model(REPO).tags[VERSION])


def test_a_team_publishes_what_its_owner_released_and_signed(
    with_dvc: Path, tmp_path: Path, said: list[str]
) -> None:
    root, keys = tmp_path / "team", tmp_path / "keys"
    shutil.copytree(with_dvc, root)
    keys.mkdir()
    carol = introduce(root, keys, "carol")
    (root / policy.FILE).write_text(POLICY, encoding="utf-8")
    (root / policy.SIGNERS).write_text(allowed(keys, "alice", "bob", "carol"), encoding="utf-8")
    signatures.commit_policy(carol.workspace, "Policy")
    press = Press(Shelf(root), HubServer(), said)
    press.hub.add_organisation("studio", {"alice": "admin"})
    alice, asset = introduce(root, keys, "alice"), AssetId.parse(NAME)
    press.shelf.add(NAME, for_avatar(), **OPEN)
    relock(root, asset)
    alice.workspace.store.track(press.folder() / "weights")

    release.make(alice.workspace, asset, None, said.append)
    done = press.publish()
    press.set(publish={"hub": "mallory/zhangsan"})
    git(root, "commit", "--quiet", "--all", "-m", "sent elsewhere, and not signed")
    press.hub.log.clear()
    with pytest.raises(LoraregError) as caught:
        press.publish()

    assert (done.version, done.verified) == (VERSION, (WEIGHTS,))
    assert "signature" in caught.value.why
    assert press.hub.log == []


def test_a_refusal_is_two_and_one_json_document(press: Press) -> None:
    press.set(visibility="private")

    with press.hub.in_process(press.token):
        answer = lorareg(press.shelf.root, "publish", NAME, "--json")

    assert (answer.code, press.hub.log) == (2, [])
    assert "never leaves the registry" in answer.json["error"]["why"]


def test_an_adapter_of_another_registry_comes_with_its_provenance_and_terms(
    press: Press, bob: Workspace, said: list[str]
) -> None:
    put_up(press)

    with press.hub.in_process(press.hub.add_user("bob-elsewhere")):
        asset = hub_import.pull(bob, f"hub:{REPO}@{VERSION}", None, said.append)
        again = hub_import.pull(bob, f"{REPO}@{VERSION}", None, said.append)

    known, manifest = bob.load_lock(asset), bob.load_manifest(asset)
    assert (str(asset), again) == (NAME, asset)
    assert said[-1] == f"{NAME} is here already"
    assert isinstance(known, ImportedLock)
    origin = known.inputs.origin.hub
    assert origin is not None
    assert (origin.repo, origin.revision) == (REPO, press.hub.model(REPO).tags[VERSION])
    assert (origin.asset, origin.version) == (NAME, VERSION)
    there = press.folder() / "weights" / WEIGHTS
    assert origin.tensors == known.outputs[WEIGHTS].tensors == tensor_digest(there)
    assert manifest.license is not None
    assert (manifest.license.id, manifest.trigger) == ("CC-BY-4.0", "zzhangsan")
    assert str(manifest.scope.expires) == "2999-12-31"
    assert manifest.origin is not None
    assert manifest.origin.author == "studio"


def foreign(press: Press, **files: bytes) -> dict[str, bytes]:
    """A repository that no lorareg filled; a kohya file and a card."""
    file = press.shelf.root / "ink.safetensors"
    kohya.write(file, for_avatar(7), "sd1", {})
    card = "---\nlicense: cc-by-nc-4.0\ninstance_prompt: in ink\ntags: [lora]\n---\n# Ink\n"
    content = {"ink.safetensors": file.read_bytes(), "README.md": card.encode(), **files}
    press.hub.add_repo(FOREIGN, content)
    return content


def test_an_adapter_of_strangers_comes_with_the_commit_it_was_taken_from(
    as_bob: Press, bob: Workspace, said: list[str]
) -> None:
    foreign(as_bob, **{"old.ckpt": b"could run code"})

    asset = hub_import.pull(bob, FOREIGN, "style/ink", said.append)

    known, manifest = bob.load_lock(asset), bob.load_manifest(asset)
    assert isinstance(known, ImportedLock)
    origin = known.inputs.origin.hub
    assert origin is not None
    assert (origin.repo, origin.revision) == (FOREIGN, as_bob.hub.model(FOREIGN).head.sha)
    assert (origin.asset, origin.tensors) == (None, None)
    assert manifest.license is not None
    assert (manifest.license.id, manifest.trigger) == ("cc-by-nc-4.0", "in ink")
    assert not any("old.ckpt" in path for _, path, _ in as_bob.hub.log)


def test_the_command_imports_what_it_is_told_and_as_what(as_bob: Press, bob: Workspace) -> None:
    foreign(as_bob)

    answer = lorareg(bob.root, "pull", f"hub:{FOREIGN}", "--as", "style/ink", "--json")

    assert (answer.code, answer.json["imported"]) == (0, ["style/ink"])
    assert (bob.folder(AssetId("style", "ink")).weights / WEIGHTS).is_file()


def nothing_of(asset: str, workspace: Workspace) -> bool:
    return not workspace.folder(AssetId.parse(asset)).path.exists()


def test_strangers_adapters_need_a_name(as_bob: Press, bob: Workspace, said: list[str]) -> None:
    foreign(as_bob)

    with pytest.raises(LoraregError, match="does not say what it is to be called") as caught:
        hub_import.pull(bob, FOREIGN, None, said.append)
    assert f"lorareg pull hub:{FOREIGN} --as" in caught.value.fix


def test_pickles_are_refused_and_named(as_bob: Press, bob: Workspace, said: list[str]) -> None:
    as_bob.hub.add_repo(FOREIGN, {"adapter_model.bin": b"x", "deep/other.pt": b"y"})

    with pytest.raises(InvalidFileError, match=r"adapter_model\.bin, deep/other\.pt"):
        hub_import.pull(bob, FOREIGN, "style/ink", said.append)

    assert not any("resolve" in path for _, path, _ in as_bob.hub.log)
    assert nothing_of("style/ink", bob)


@pytest.mark.parametrize("same_size", [True, False])
def test_bytes_that_are_not_those_the_hub_lists_are_refused(
    as_bob: Press, bob: Workspace, said: list[str], same_size: bool
) -> None:
    data = foreign(as_bob)["ink.safetensors"]
    sha = str(as_bob.hub.model(FOREIGN).head.files["ink.safetensors"].sha256)
    as_bob.hub.objects[sha] = data[:-1] + bytes([data[-1] ^ 1]) + (b"" if same_size else b"z")

    with pytest.raises((IntegrityError, LoraregError)):
        hub_import.pull(bob, FOREIGN, "style/ink", said.append)

    assert nothing_of("style/ink", bob)


def test_a_header_that_lies_is_refused(as_bob: Press, bob: Workspace, said: list[str]) -> None:
    lies = (1 << 40).to_bytes(8, "little") + b"{}"
    as_bob.hub.add_repo(FOREIGN, {"ink.safetensors": lies})

    with pytest.raises(InvalidFileError, match="not a valid safetensors"):
        hub_import.pull(bob, FOREIGN, "style/ink", said.append)
    assert nothing_of("style/ink", bob)


def test_other_weights_are_refused_though_the_marker_was_written_anew(
    press: Press, bob: Workspace, said: list[str]
) -> None:
    put_up(press)
    other = press.shelf.root / "other.safetensors"
    kohya.write(other, for_avatar(9), "sd1", {})
    marker = json.loads(press.text("lorareg.json"))
    marker["files"][WEIGHTS] = of_file(other)
    forged = {WEIGHTS: other.read_bytes(), "lorareg.json": json.dumps(marker).encode()}
    press.hub.add_repo(REPO, forged)

    with press.hub.in_process(press.token), pytest.raises(IntegrityError, match="is refused") as e:
        hub_import.pull(bob, REPO, None, said.append)
    assert "its lock says tensors-sha256-v1:" in e.value.why
    assert nothing_of(NAME, bob)


def test_a_header_that_was_changed_is_refused_though_the_tensors_are_the_same(
    press: Press, bob: Workspace, said: list[str]
) -> None:
    put_up(press)
    here, other = press.folder() / "weights" / WEIGHTS, press.shelf.root / "other.safetensors"
    raw, notes = tensors.read(here)
    tensors.write(other, raw, {**notes, "modelspec.trigger_phrase": "something else"})
    press.hub.add_repo(REPO, {WEIGHTS: other.read_bytes()})

    with press.hub.in_process(press.token), pytest.raises(IntegrityError, match="is refused") as e:
        hub_import.pull(bob, REPO, None, said.append)
    assert "lorareg.json promises sha256:" in e.value.why
    assert nothing_of(NAME, bob)


def test_a_tag_that_was_moved_to_another_release_is_refused(
    press: Press, bob: Workspace, said: list[str]
) -> None:
    put_up(press)
    repo = press.hub.model(REPO)
    repo.tags["v2.0.0"] = repo.tags[VERSION]

    with press.hub.in_process(press.token), pytest.raises(IntegrityError, match="is v1.0.0"):
        hub_import.pull(bob, f"{REPO}@v2.0.0", None, said.append)


def test_who_is_not_let_in_is_told_where_to_ask(
    as_bob: Press, bob: Workspace, said: list[str]
) -> None:
    with as_bob.hub.in_process(as_bob.token):
        as_bob.publish()

    with (
        as_bob.hub.in_process(as_bob.hub.add_user("bob-elsewhere")),
        pytest.raises(LoraregError, match="behind a gate") as caught,
    ):
        hub_import.pull(bob, f"{REPO}@{VERSION}", None, said.append)

    assert REPO in caught.value.fix


def test_several_adapters_in_one_repository_are_listed(
    as_bob: Press, bob: Workspace, said: list[str]
) -> None:
    foreign(as_bob, **{"other.safetensors": b"x"})

    with pytest.raises(InvalidFileError, match="several adapters") as caught:
        hub_import.pull(bob, FOREIGN, "style/ink", said.append)

    assert caught.value.why == "ink.safetensors, other.safetensors"


def test_what_was_published_says_so_in_json(press: Press) -> None:
    press.publish()

    marker = json.loads(press.text("lorareg.json"))
    assert set(marker["files"]) == {"README.md", "lock.json", "manifest.yaml", WEIGHTS}
