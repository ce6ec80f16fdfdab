"""Fixtures of the recipes' tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.flows.conftest import Answer, git, lorareg
from tests.flows.recipes.shelved import GLOW, INK, ZHANGSAN, commit
from tests.started import start
from tests.weights.composed import Shelf

Run = Callable[..., Answer]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with git, DVC and three adapters that know nothing of each other."""
    top = tmp_path_factory.mktemp("recipes")
    root = top / "registry"
    start(root, top / "storage")
    git(root, "config", "user.name", "Test")
    git(root, "config", "user.email", "test@example.org")
    shelf = Shelf(root)
    shelf.add("style/ink", INK, trigger="zzink", weight={"default": 0.8})
    shelf.add("character/zhangsan", ZHANGSAN, trigger="zzhangsan", title={"zh": "张三"})
    shelf.add("style/glow", GLOW, trigger="zzglow")
    commit(root, "three adapters")
    return root


@pytest.fixture
def shelf(template: Path, tmp_path: Path) -> Shelf:
    """A copy of it."""
    root = tmp_path / "registry"
    shutil.copytree(template, root, symlinks=True)
    return Shelf(root)


@pytest.fixture
def run(shelf: Shelf) -> Run:
    """A command that must go well."""

    def good(*words: str) -> Answer:
        answer = lorareg(shelf.root, *words)
        assert answer.code == 0, answer.err + answer.out
        return answer

    return good
