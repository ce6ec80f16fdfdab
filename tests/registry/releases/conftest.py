"""Fixtures of the releases' tests: one registry is made and copied, since DVC is slow."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorareg.registry.access import policy, signatures
from tests.registry.releases.team import INK, POLICY, STYLE, Person, allowed, git, introduce, relock
from tests.started import start
from tests.weights.composed import Shelf


@pytest.fixture(autouse=True)
def _git_of_its_own(tmp_path: Path) -> Iterator[None]:
    """The user's settings stay out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        yield


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everybody's keys."""
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Path:
    """A registry of one with a style that is ready for its first release."""
    top = tmp_path_factory.mktemp("template")
    root = start(top / "registry", top / "storage")
    introduce(root, keys, "alice")
    shelf = Shelf(root)
    shelf.add(str(STYLE), INK, trigger="zzink", owners=["alice"], weight={"default": 0.8})
    relock(root, STYLE)
    shelf.workspace.store.track(shelf.workspace.folder(STYLE).weights)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "-m", "one style")
    return root


@pytest.fixture
def alice(template: Path, tmp_path: Path) -> Person:
    """Owner of the style, in a registry without a policy."""
    root = tmp_path / "registry"
    shutil.copytree(template, root, symlinks=True)
    return Person("alice", root)


@pytest.fixture
def team(alice: Person, keys: Path) -> Person:
    """Alice, in a registry with a policy: carol maintains it, bob may only use it."""
    carol = introduce(alice.root, keys, "carol")
    (alice.root / policy.FILE).write_text(POLICY, encoding="utf-8")
    (alice.root / policy.SIGNERS).write_text(allowed(keys, "alice", "bob", "carol"))
    signatures.commit_policy(carol.workspace, "Policy")
    return introduce(alice.root, keys, "alice")
