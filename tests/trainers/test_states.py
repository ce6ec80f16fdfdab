"""A remembered state is taken only while nothing that it depends on changed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from benchmarks.registry_assets import make
from lorareg.registry import stamp
from lorareg.registry.ids import AssetId
from lorareg.registry.workspace import Workspace
from lorareg.trainers import changes
from lorareg.trainers.changes import Status
from lorareg.trainers.states import States

FIRST = AssetId("character", "asset-00000")
MIX = AssetId("recipe", "mix-00000")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Twenty assets, whose states were found once, long enough after they were written."""
    make(tmp_path, 20)
    found = Workspace(tmp_path)
    monkeypatch.setattr(stamp, "RACY_SECONDS", -1.0)
    look(found)
    return found


def look(workspace: Workspace, asset: AssetId = FIRST) -> tuple[str, tuple[str, ...]]:
    found = {each.asset: each for each in States(workspace).of(list(workspace.assets()))}
    return found[asset].state, found[asset].reasons


def test_nothing_is_compared_again_while_nothing_changed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[AssetId] = []

    def compare(_: Workspace, asset: AssetId) -> Status:
        asked.append(asset)
        return Status(asset, "stale")

    monkeypatch.setattr(changes, "status", compare)

    assert look(workspace) == ("up-to-date", ())
    assert asked == []


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("manifests/character/asset-00000/manifest.yaml", "stale"),
        ("manifests/character/asset-00000/weights/pytorch_lora_weights.safetensors", "modified"),
        ("data/character/asset-00000/img000.png", "stale"),
    ],
)
def test_a_change_of_the_same_size_and_with_the_old_mtime_is_seen(
    workspace: Workspace, name: str, state: str
) -> None:
    path = workspace.root / name
    before, stat = path.read_bytes(), path.stat()
    after = before.replace(b"epochs: 50", b"epochs: 51") if b"epochs" in before else before[::-1]
    path.write_bytes(after)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    assert len(after) == len(before)
    assert look(workspace)[0] == state


def test_a_new_file_in_a_dataset_and_a_lost_one_are_seen(workspace: Workspace) -> None:
    folder = workspace.root / "data" / str(FIRST)
    (folder / "new.png").write_bytes(b"new")
    state, reasons = look(workspace)
    assert (state, reasons[0]) == ("stale", f"data/{FIRST}: new.png added")

    (folder / "new.png").unlink()
    (folder / "img000.png").unlink()
    state, reasons = look(workspace)
    assert (state, reasons[0]) == ("stale", f"data/{FIRST}: img000.png removed")


def test_a_state_goes_back_with_the_files(workspace: Workspace) -> None:
    weights = workspace.folder(FIRST).weights
    weights.rename(weights.with_name("away"))
    assert look(workspace)[0] == "missing"

    weights.with_name("away").rename(weights)
    assert look(workspace)[0] == "up-to-date"


def test_a_file_that_changed_just_now_is_compared_every_time(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamp, "RACY_SECONDS", 3600.0)
    manifest = workspace.folder(FIRST).manifest
    manifest.write_text(manifest.read_text().replace("epochs: 50", "epochs: 51"))
    assert look(workspace)[0] == "stale"

    asked: list[AssetId] = []
    monkeypatch.setattr(
        changes, "status", lambda _, asset: asked.append(asset) or Status(asset, "stale")
    )
    look(workspace)

    assert asked == [FIRST, MIX]  # and the recipe that it is a member of


def test_a_recipe_is_stale_when_a_member_has_other_weights(workspace: Workspace) -> None:
    assert look(workspace, MIX) == ("up-to-date", ())
    lock = workspace.folder(FIRST).lock
    text = lock.read_text()
    tensors = text.partition('"tensors": "')[2].partition('"')[0]
    lock.write_text(text.replace(tensors, f"tensors-sha256-v1:{'0' * 64}"))

    state, reasons = look(workspace, MIX)

    assert state == "stale"
    assert reasons[0].startswith(f"{FIRST}: ")


def test_a_recipe_without_a_lock_says_what_makes_one(workspace: Workspace) -> None:
    workspace.folder(MIX).lock.unlink()

    assert look(workspace, MIX) == (
        "untrained",
        ("there is no lock: lorareg compose makes one",),
    )


def test_a_damaged_memory_costs_time_only(workspace: Workspace) -> None:
    (workspace.cache / "states.sqlite").write_bytes(b"no database" * 100)

    assert look(workspace) == ("up-to-date", ())


def test_a_stamp_is_settled_only_when_its_last_change_is_long_ago(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert not stamp.of(str(tmp_path), ["file"]).is_settled
    assert stamp.of(str(tmp_path), ["nowhere"]).is_settled
    assert stamp.Stamp("x", time.time() - 3).is_settled
