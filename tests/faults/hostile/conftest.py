"""One registry is made, and copied for every case: releases, channels, a policy, a recipe."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.hostile import making
from tests.faults.hostile.place import SECRET, Place, copy


@pytest.fixture(autouse=True, scope="package")
def _world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nobody's git settings, keys, tokens or terminal but the tests' own."""
    home = tmp_path_factory.mktemp("home")
    (home / "gitconfig").write_text("")
    settings = {
        "HOME": str(home),
        "GIT_CONFIG_GLOBAL": str(home / "gitconfig"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "SSH_AUTH_SOCK": "",
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "200",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="package")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every case begins with."""
    top = tmp_path_factory.mktemp("hostile") / "template"
    making.build(top)
    outside = top / "outside"
    (outside / "folder").mkdir(parents=True)
    for name in ("secret.txt", "folder/1.txt"):
        (outside / name).write_text(f"{SECRET}\n")
    (outside / "passwd").write_text(f"root:x:0:0:{SECRET}:/root:/bin/sh\n")
    (outside / "secret.yaml").write_text(f"{SECRET}: {SECRET}\nschema: {SECRET}\n")
    (outside / "secret.json").write_text(json.dumps({SECRET: SECRET, "asset": SECRET}))
    source = top / "registry/manifests/style/ink"
    shutil.copytree(source / "weights", outside / "weights")
    return top


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Place:
    """One copy, for a test to spoil."""
    return copy(template, tmp_path / "place")
