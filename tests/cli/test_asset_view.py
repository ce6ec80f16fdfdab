"""What ``show`` tells is remembered, and told anew when anything of it changed."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.registry_assets import make
from lorareg.cli import asset_view
from lorareg.registry import stamp
from lorareg.registry.ids import Ref
from lorareg.registry.workspace import Workspace

REF = Ref.parse("character/asset-00000")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    make(tmp_path, 2)
    monkeypatch.setattr(stamp, "RACY_SECONDS", -1.0)
    found = Workspace(tmp_path)
    asset_view.told(found, REF)
    return found


def told(workspace: Workspace) -> dict[str, Any]:
    return asset_view.told(workspace, REF)


def test_a_second_look_reads_nothing_of_the_asset(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = told(workspace)
    monkeypatch.setattr(asset_view, "_told", None)

    assert told(workspace) == before


def test_another_manifest_is_told(workspace: Workspace) -> None:
    file = workspace.manifests / str(REF) / "manifest.yaml"
    file.write_text(file.read_text().replace("epochs: 50", "epochs: 51"))

    assert told(workspace)["manifest"]["train"]["epochs"] == 51


def test_a_new_release_is_told(workspace: Workspace) -> None:
    subprocess.run(["git", "tag", f"{REF}@v1.0.0"], cwd=workspace.root, check=True)
    assert told(workspace)["version"] == "v1.0.0"

    subprocess.run(["git", "pack-refs", "--all"], cwd=workspace.root, check=True)
    subprocess.run(["git", "tag", f"{REF}@v1.1.0"], cwd=workspace.root, check=True)
    assert told(workspace)["version"] == "v1.1.0"


def test_a_channel_that_moved_is_told(workspace: Workspace) -> None:
    file = workspace.manifests / str(REF) / "channels.yaml"
    file.write_text("schema: lorareg/1\nstable: v1.0.0\n")

    assert told(workspace)["said"]["channels"] == {"stable": "v1.0.0"}


def test_a_lock_that_is_gone_is_told(workspace: Workspace) -> None:
    (workspace.manifests / str(REF) / "lock.json").unlink()

    assert told(workspace)["lock"] is None
