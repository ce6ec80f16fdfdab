from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lorareg.errors import InvalidFileError, LoraregError, NotFoundError
from lorareg.registry import digest, lock
from lorareg.registry.dvc import pointer
from lorareg.registry.ids import AssetId, Ref
from lorareg.registry.workspace import Workspace

GOLDEN_LOCK = Path(__file__).parents[1] / "golden/v1/lock.json"
ZHANGSAN = AssetId("character", "zhangsan")


def text(asset: AssetId) -> str:
    return (
        f"schema: lorareg/1\nkind: {asset.kind}\nname: {asset.name}\ntask: text-to-image\n"
        f"base: {{model: builtin:avatar}}\ndataset: {{path: data/{asset.name}}}\n"
        "train: {epochs: 5}  # a few\n"
    )


def add(registry: Path, *names: str) -> Workspace:
    """Put adapters with the shortest manifests into a registry."""
    for name in names:
        asset = AssetId.parse(name)
        path = registry / "manifests" / name / "manifest.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text(asset), encoding="utf-8")
    return Workspace(registry)


def test_a_registry_is_found_from_any_folder_in_it(registry: Path) -> None:
    deep = registry / "data/faces"
    deep.mkdir(parents=True)

    assert Workspace.find(deep).root == registry.resolve()
    assert Workspace.find(registry).root == registry.resolve()


def test_a_folder_that_is_no_registry_is_told_how_to_become_one(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no registry") as caught:
        Workspace.find(tmp_path)

    assert "lorareg init" in caught.value.fix


def test_settings_are_read_and_checked(registry: Path) -> None:
    assert Workspace(registry).settings.name == "scratch"
    (registry / "lorareg.yaml").write_text("schema: lorareg/1\nname: x\nremote: {}\n")

    with pytest.raises(InvalidFileError, match=r"lorareg\.yaml has 1 problem") as caught:
        _ = Workspace(registry).settings

    assert "did you mean remotes?" in caught.value.why


def test_assets_are_the_folders_with_a_manifest_sorted(registry: Path) -> None:
    workspace = add(registry, "style/ink", "character/zhangsan", "character/lisi")
    for other in ("character/empty", "character/.hidden", "Character/x", "style/张三", "a/b/c"):
        (registry / "manifests" / other).mkdir(parents=True)
    (registry / "manifests/style/张三/manifest.yaml").write_text("x")
    (registry / "manifests/policy.yaml").write_text("x")

    found = [str(asset) for asset in workspace.assets()]

    assert found == ["character/lisi", "character/zhangsan", "style/ink"]


def test_an_empty_registry_has_no_assets(registry: Path) -> None:
    assert list(Workspace(registry).assets()) == []


def test_a_bare_name_works_where_it_is_unique(registry: Path) -> None:
    workspace = add(registry, "style/ink", "character/zhangsan")

    assert workspace.find_asset("zhangsan") == ZHANGSAN
    assert workspace.find_asset("style/ink") == AssetId("style", "ink")


def test_a_version_is_refused_where_it_would_be_ignored(registry: Path) -> None:
    workspace = add(registry, "character/zhangsan")
    pinned = Ref("character", "zhangsan", "v1.0.0")

    with pytest.raises(NotFoundError, match="checked out"):
        workspace.find_asset(pinned)

    assert workspace.find_asset(pinned, any_version=True) == ZHANGSAN


def test_a_name_of_several_assets_lists_the_candidates(registry: Path) -> None:
    workspace = add(registry, "style/ink", "tone/ink")

    with pytest.raises(NotFoundError, match="several assets") as caught:
        workspace.find_asset("ink")

    assert "style/ink, tone/ink" in caught.value.why
    assert "style/ink" in caught.value.fix


def test_an_unknown_name_is_answered_with_near_ones(registry: Path) -> None:
    workspace = add(registry, "style/ink", "character/zhangsan", "scene/zhangsan")

    for ref in ("zangsan", "character/zhangsna", "style/zhangsan"):
        with pytest.raises(NotFoundError, match="there is no asset") as caught:
            workspace.find_asset(ref)
        assert "character/zhangsan, scene/zhangsan" in caught.value.why


@pytest.mark.parametrize("ref", ["../zhangsan", "/etc/passwd", "character/../../x", "a\\b"])
def test_a_reference_never_leads_out_of_the_registry(registry: Path, ref: str) -> None:
    with pytest.raises(LoraregError, match="not a slug"):
        Workspace(registry).find_asset(ref)


def test_an_asset_folder_that_links_out_of_the_registry_is_refused(
    registry: Path, tmp_path: Path
) -> None:
    add(tmp_path / "other", "character/zhangsan")
    (registry / "manifests/character").mkdir(parents=True)
    (registry / "manifests/character/zhangsan").symlink_to(
        tmp_path / "other/manifests/character/zhangsan"
    )

    with pytest.raises(InvalidFileError, match="refused"):
        Workspace(registry).load_manifest(ZHANGSAN)


def test_every_path_of_an_asset_is_in_its_folder(registry: Path) -> None:
    workspace = add(registry, "character/zhangsan")

    folder = workspace.folder(ZHANGSAN)

    paths = [
        folder.manifest, folder.lock, folder.dataset, folder.weights, folder.pointer, folder.card,
        folder.preview,
    ]  # fmt: skip
    assert {path.parent for path in paths} == {registry / "manifests/character/zhangsan"}
    assert workspace.runs(ZHANGSAN).is_relative_to(workspace.scratch)
    assert workspace.cache.is_relative_to(workspace.scratch)


def test_a_dataset_that_links_out_of_the_registry_is_refused(registry: Path) -> None:
    workspace = add(registry, "character/zhangsan")
    (registry / "data").symlink_to("/")

    with pytest.raises(InvalidFileError, match="refused"):
        workspace.dataset(workspace.load_manifest(ZHANGSAN))


def test_a_recipe_is_not_taken_for_an_adapter(registry: Path) -> None:
    with pytest.raises(NotFoundError, match="recipe/both is a recipe"):
        Workspace(registry).load_manifest(AssetId("recipe", "both"))


def test_an_edited_manifest_keeps_its_comments(registry: Path) -> None:
    workspace = add(registry, "character/zhangsan")

    workspace.edit_manifest(ZHANGSAN, {"train.epochs": 7, "dataset.skip": ["a.png"]})

    assert workspace.load_manifest(ZHANGSAN).train.epochs == 7
    assert workspace.load_manifest(ZHANGSAN).dataset.skip == ("a.png",)
    assert "epochs: 7}  # a few" in workspace.folder(ZHANGSAN).manifest.read_text()


def test_an_edit_that_makes_a_manifest_wrong_is_refused(registry: Path) -> None:
    workspace = add(registry, "character/zhangsan")

    with pytest.raises(InvalidFileError, match="1 problem"):
        workspace.edit_manifest(ZHANGSAN, {"train.epoch": 7})

    assert workspace.folder(ZHANGSAN).manifest.read_text() == text(ZHANGSAN)


def with_lock(workspace: Workspace) -> lock.Lock:
    """Give character/zhangsan weights and the lock that promises them."""
    folder = workspace.folder(ZHANGSAN)
    document = json.loads(GOLDEN_LOCK.read_text("utf-8"))
    folder.weights.mkdir()
    for name, promised in document["outputs"].items():
        (folder.weights / name).write_bytes(b"weights")
        promised["sha256"] = digest.of_bytes(b"weights")
    lock.save(folder.lock, document)
    found = workspace.load_lock(ZHANGSAN)
    assert found is not None
    return found


def test_an_untrained_adapter_has_no_lock(registry: Path) -> None:
    assert add(registry, "character/zhangsan").load_lock(ZHANGSAN) is None


def test_weights_match_their_lock_byte_for_byte(registry: Path) -> None:
    workspace = add(registry, "character/zhangsan")
    known = with_lock(workspace)
    folder = workspace.folder(ZHANGSAN)
    file = folder.weights / next(iter(known.outputs))

    matches = [workspace.weights_match(folder, known)]
    stat = file.stat()
    file.write_bytes(b"Weights")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    matches.append(workspace.weights_match(folder, known))
    file.unlink()
    matches.append(workspace.weights_match(folder, known))

    assert matches == [True, False, False]


def test_the_lock_of_another_asset_is_refused(registry: Path) -> None:
    workspace = add(registry, "character/zhangsan", "character/lisi")
    with_lock(workspace)
    lisi = AssetId("character", "lisi")

    workspace.folder(lisi).lock.write_bytes(workspace.folder(ZHANGSAN).lock.read_bytes())

    with pytest.raises(InvalidFileError, match="is the lock of character/zhangsan") as caught:
        workspace.load_lock(lisi)
    assert "rm manifests/character/lisi/lock.json" in caught.value.fix


def test_a_dataset_has_the_md5_that_dvc_gave_it(registry: Path) -> None:
    workspace = add(registry, "character/zhangsan")
    manifest = workspace.load_manifest(ZHANGSAN)
    (registry / "data").mkdir()
    before = workspace.data_md5(workspace.dataset(manifest))

    md5 = "eacf412ae86d3f39a495b4e57f06c8c3.dir"
    out = f"- md5: {md5}\n  size: 6\n  nfiles: 2\n  hash: md5\n  path: zhangsan\n"
    pointer.pointer_path(registry / "data/zhangsan").write_text(f"outs:\n{out}")

    assert (before, workspace.data_md5(workspace.dataset(manifest))) == (None, md5)


def test_listing_a_thousand_manifests_is_fast_and_needs_no_torch(registry: Path) -> None:
    add(registry, *(f"kind{n % 10}/name{n}" for n in range(1000)))
    code = (
        "import sys, time; from lorareg.registry.workspace import Workspace\n"
        "workspace = Workspace.find(); began = time.process_time()\n"
        "found = [workspace.load_manifest(asset) for asset in workspace.assets()]\n"
        "print(len(found), time.process_time() - began, 'torch' in sys.modules)"
    )

    output = subprocess.check_output([sys.executable, "-c", code], cwd=registry, text=True)

    count, seconds, torch = output.split()
    assert (count, torch) == ("1000", "False")
    assert float(seconds) < 1.0, "0.3 s of CPU on a quiet machine"
