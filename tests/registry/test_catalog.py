"""The list of assets is remembered, and never wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lorareg.registry import catalog
from lorareg.registry.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    (tmp_path / "lorareg.yaml").write_text("schema: lorareg/1\nname: test\n")
    for name in ("ink", "oil"):
        folder = tmp_path / "manifests" / "style" / name
        folder.mkdir(parents=True)
        (folder / "manifest.yaml").write_text(f"kind: style\nname: {name}\ntrigger: one\n")
    monkeypatch.setattr(catalog, "RACY_SECONDS", -1.0)
    return Workspace(tmp_path)


def triggers(workspace: Workspace) -> dict[str, str | None]:
    return {row.asset: row.trigger for row in catalog.rows(workspace)}


def test_a_second_look_reads_no_manifest(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = catalog.rows(workspace)
    monkeypatch.setattr("lorareg.registry.yamlfile.load", None)

    assert catalog.rows(workspace) == first


def test_a_change_of_the_same_size_and_with_the_old_mtime_is_seen(workspace: Workspace) -> None:
    triggers(workspace)
    path = workspace.manifests / "style" / "ink" / "manifest.yaml"
    stat = path.stat()
    path.write_text(path.read_text().replace("one", "two"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    assert triggers(workspace) == {"style/ink": "two", "style/oil": "one"}


def test_a_lock_that_appears_is_seen_without_the_manifest(workspace: Workspace) -> None:
    assert [row.trained for row in catalog.rows(workspace)] == [False, False]

    (workspace.manifests / "style" / "ink" / "lock.json").write_text("{}")

    assert [row.trained for row in catalog.rows(workspace)] == [True, False]


def test_assets_of_one_kind_do_not_push_the_others_out_of_the_memory(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.rows(workspace)
    assert catalog.rows(workspace, "tone") == []
    monkeypatch.setattr("lorareg.registry.yamlfile.load", None)

    assert len(catalog.rows(workspace)) == 2


def test_an_asset_that_is_gone_leaves_the_memory(workspace: Workspace) -> None:
    catalog.rows(workspace)
    folder = workspace.manifests / "style" / "oil"
    (folder / "manifest.yaml").unlink()

    assert list(triggers(workspace)) == ["style/ink"]
    assert "style/oil" not in (workspace.cache / "catalog.json").read_text()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"lorareg": "0.0.0"}'])
def test_a_damaged_memory_costs_time_only(workspace: Workspace, text: str) -> None:
    before = triggers(workspace)
    (workspace.cache / "catalog.json").write_text(text)

    assert triggers(workspace) == before
