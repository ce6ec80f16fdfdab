"""What two states of an asset differ in, read from git alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorareg.errors import LoraregError, NotFoundError
from lorareg.registry import digest, states
from lorareg.registry.differences import Change, Differences, changes, compare
from lorareg.registry.workspace import Workspace
from tests.flows.conftest import git
from tests.weights.composed import Shelf
from tests.weights.planted import SMALL, sharing

(DELTA,) = sharing(SMALL, [2], 0.0)
INK = "style/ink"
TREES = st.recursive(
    st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.text("ab", min_size=1, max_size=2), inner, max_size=3),
    max_leaves=6,
).filter(lambda tree: isinstance(tree, dict))


@given(TREES)
def test_a_tree_does_not_differ_from_itself(tree: dict[str, Any]) -> None:
    assert changes(tree, tree) == ()


@given(TREES, TREES)
def test_the_way_back_has_the_same_keys(one: dict[str, Any], other: dict[str, Any]) -> None:
    forth, back = changes(one, other), changes(other, one)

    assert [(c.key, c.before, c.after) for c in forth] == [(c.key, c.after, c.before) for c in back]


def test_blocks_in_a_list_are_numbered_and_plain_lists_are_values() -> None:
    before = {"sources": [{"title": "a"}], "targets": ["to_q"]}
    after = {"sources": [{"title": "b"}, {"title": "c"}], "targets": ["to_q", "to_k"]}

    assert changes(before, after) == (
        Change("sources.0.title", "a", "b"),
        Change("sources.1.title", None, "c"),
        Change("targets", ["to_q"], ["to_q", "to_k"]),
    )


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """style/ink has v1.0.0; what is checked out was trained on other data, elsewhere, longer."""
    root = tmp_path_factory.mktemp("differences") / "registry"
    root.mkdir()
    (root / "lorareg.yaml").write_text("schema: lorareg/1\nname: scratch\n", encoding="utf-8")
    (root / ".gitignore").write_text(".lorareg/\nweights/\n", encoding="utf-8")
    git(root.parent, "init", "--quiet", "--initial-branch=main", str(root))
    git(root, "config", "user.name", "Test")
    git(root, "config", "user.email", "test@example.org")
    shelf = Shelf(root)
    shelf.add(INK, DELTA, title={"zh": "墨"}, weight={"default": 0.8})
    dataset(root, {"a.png": "1", "b.png": "2"}, {"a.png": "x", "b.png": "y"})
    save(root, "v1.0.0")
    shutil.rmtree(root / "manifests/style/ink")
    shelf.add(
        INK, DELTA, title={"zh": "墨线"}, scope={"commercial": "none"}, license={"id": "CC-BY-4.0"}
    )
    dataset(root, {"b.png": "2", "c.png": "3"}, {"b.png": "z", "c.png": "y"})
    document = lock(root)
    document["environment"] |= {"python": "3.12.1", "device": "cuda"}
    document["environment"]["packages"]["torch"] = "2.14.0"
    document["result"] |= {"validation_loss": 0.1, "best_step": 900}
    (root / "manifests/style/ink/lock.json").write_text(json.dumps(document), encoding="utf-8")
    return root


@pytest.fixture
def workspace(template: Path, tmp_path: Path) -> Workspace:
    root = tmp_path / "registry"
    shutil.copytree(template, root, symlinks=True)
    return Workspace(root)


def sha(text: str) -> str:
    return digest.of_bytes(text.encode())


def lock(root: Path) -> dict[str, Any]:
    text = (root / "manifests/style/ink/lock.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def dataset(root: Path, files: dict[str, str], records: dict[str, str]) -> None:
    """Write dataset.json, and its digest into the lock."""
    folder, document = root / "manifests/style/ink", lock(root)
    listed = {name: sha(text) for name, text in files.items()}
    document["inputs"]["dataset"] |= {"digest": digest.of_tree(listed), "records": len(records)}
    (folder / "lock.json").write_text(json.dumps(document), encoding="utf-8")
    index = {"files": listed, "records": {name: sha(text) for name, text in records.items()}}
    (folder / "dataset.json").write_text(json.dumps(index), encoding="utf-8")


def save(root: Path, version: str) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "-m", version)
    git(root, "tag", f"{INK}@{version}")


def found(workspace: Workspace, before: str = INK, after: str | None = None) -> Differences:
    return compare(*states.pair(workspace, before, after))


def test_without_a_second_state_the_newest_release_is_compared_with_what_is_here(
    workspace: Workspace,
) -> None:
    both = found(workspace)

    assert (both.before.ref, both.after.ref) == ("style/ink@v1.0.0", "style/ink")
    assert both.before.commit == git(workspace.root, "rev-parse", "style/ink@v1.0.0").strip()


def test_every_key_of_the_manifest_that_differs_is_named(workspace: Workspace) -> None:
    named = {change.key: (change.before, change.after) for change in found(workspace).manifest}

    assert named == {
        "title.zh": ("墨", "墨线"),
        "weight.default": (0.8, 1.0),
        "scope.commercial": ("resale", "none"),
        "license.id": ("MIT", "CC-BY-4.0"),
    }


def test_records_and_files_are_told_apart_by_name(workspace: Workspace) -> None:
    data = found(workspace).data

    assert data
    assert (data.files.added, data.files.removed, data.files.changed) == (
        ("c.png",), ("a.png",), (),
    )  # fmt: skip
    assert data.captions.changed == ("b.png",)
    assert data.records == (2, 2)


def test_machine_results_and_terms_have_sections_of_their_own(workspace: Workspace) -> None:
    both = found(workspace)

    assert [(c.key, c.after) for c in both.environment] == [
        ("python", "3.12.1"), ("device", "cuda"), ("torch", "2.14.0"),
    ]  # fmt: skip
    assert {c.key for c in both.metrics} == {"validation_loss", "best_step"}
    terms = {c.key: (c.before, c.after) for c in both.terms}
    assert terms["commercial"] == ("resale", "none")
    assert terms["licenses"] == (["mit"], ["cc-by-4.0"])
    assert [c.key for c in both.inputs] == ["dataset.digest"]


def test_equal_states_have_no_difference(workspace: Workspace) -> None:
    here, there = (found(workspace, ref, ref) for ref in (INK, "style/ink@v1.0.0"))

    assert here.is_empty
    assert there.is_empty
    assert not found(workspace).is_empty


def test_json_can_be_read_back(workspace: Workspace) -> None:
    document = json.loads(json.dumps(found(workspace).document()))

    assert document["before"]["ref"] == "style/ink@v1.0.0"
    assert document["dataset"]["captions"]["changed"] == ["b.png"]


def test_a_dataset_index_of_another_lock_is_refused(workspace: Workspace) -> None:
    (workspace.root / "manifests/style/ink/dataset.json").write_text(
        '{"files": {}, "records": {}}', encoding="utf-8"
    )

    with pytest.raises(LoraregError, match="does not belong to lock"):
        found(workspace)


def test_a_state_that_does_not_say_its_data_has_no_dataset_section(workspace: Workspace) -> None:
    (workspace.root / "manifests/style/ink/dataset.json").unlink()

    assert found(workspace).data is None


def test_without_a_release_there_is_nothing_to_compare_with(workspace: Workspace) -> None:
    git(workspace.root, "tag", "--delete", "style/ink@v1.0.0")

    with pytest.raises(NotFoundError, match="no release"):
        found(workspace)


def test_a_range_is_its_newest_release_and_a_missing_one_is_refused(workspace: Workspace) -> None:
    assert found(workspace, "ink@^1.0").before.ref == "style/ink@v1.0.0"
    with pytest.raises(NotFoundError):
        found(workspace, "ink@v9.0.0")
