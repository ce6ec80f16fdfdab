from __future__ import annotations

from pathlib import Path

import pytest

from lorareg.errors import InvalidFileError, LoraregError, NotFoundError
from lorareg.registry import lineage, verify
from lorareg.registry.ids import AssetId
from lorareg.registry.lock import ParentInput
from lorareg.registry.sharing import pushing
from lorareg.trainers.changes import changed_inputs
from tests.registry.family import Family, git, tensors


@pytest.fixture
def family(registry: Path) -> Family:
    git(registry, "init", "--quiet", "--initial-branch=main")
    return Family(registry)


def test_an_adapter_without_a_parent_has_none(family: Family) -> None:
    family.write("style/ink")

    assert family.parent_of("style/ink") is None
    assert family.input_of("style/ink") is None


def test_a_parent_is_the_adapter_as_it_is_checked_out(family: Family) -> None:
    family.write("style/ink")
    family.lock("style/ink", "a")
    family.write("style/wash", parent="style/ink")

    assert family.input_of("style/wash") == ParentInput(ref="style/ink", tensors=tensors("a"))
    found = family.parent_of("style/wash")
    assert found
    assert found.tag is None
    assert found.terms.id == AssetId("style", "ink")


def test_a_release_stays_what_it_was_whatever_is_checked_out(family: Family) -> None:
    family.write("style/ink")
    family.lock("style/ink", "a")
    family.commit("style/ink@v1.0.0")
    family.lock("style/ink", "b")
    family.write("style/wash", parent="style/ink@v1.0.0")

    found = family.parent_of("style/wash")

    assert found
    assert found.input == ParentInput(ref="style/ink@v1.0.0", tensors=tensors("a"))
    member = found.pinned(family.workspace)
    assert member.commit == git(family.root, "rev-parse", "style/ink@v1.0.0^{commit}")
    assert (member.ref, member.tensors) == ("style/ink@v1.0.0", tensors("a"))


def test_a_release_of_an_adapter_that_is_gone_can_still_be_a_parent(family: Family) -> None:
    family.write("style/ink")
    family.lock("style/ink", "a")
    family.commit("style/ink@v1.0.0")
    git(family.root, "rm", "-r", "--quiet", "manifests/style/ink")
    family.write("style/wash", parent="style/ink@v1.0.0")

    found = family.input_of("style/wash")

    assert found
    assert found.tensors == tensors("a")


def test_an_adapter_may_start_from_its_own_release(family: Family) -> None:
    family.write("style/ink")
    family.lock("style/ink", "a")
    family.commit("style/ink@v1.0.0")
    family.write("style/ink", parent="style/ink@v1.0.0")

    found = family.input_of("style/ink")

    assert found
    assert found.tensors == tensors("a")


@pytest.mark.parametrize(
    ("parents", "shown"),
    [
        ({"style/a": "style/a"}, "style/a > style/a"),
        ({"style/a": "style/b", "style/b": "style/a"}, "style/a > style/b > style/a"),
        (
            {"style/a": "style/b", "style/b": "style/c", "style/c": "style/b"},
            "style/a > style/b > style/c > style/b",
        ),
    ],
)
def test_a_line_that_bites_its_tail_is_refused(
    family: Family, parents: dict[str, str], shown: str
) -> None:
    for name, parent in parents.items():
        family.write(name, parent=parent)
        family.lock(name, "a")

    with pytest.raises(LoraregError, match="style/a descends from itself") as caught:
        family.parent_of("style/a")

    assert caught.value.why == shown
    assert f"parent: {parents['style/a']}@v1.0.0" in caught.value.fix


def test_a_line_is_no_circle_where_a_release_cuts_it(family: Family) -> None:
    family.write("style/a")
    family.lock("style/a", "a")
    family.commit("style/a@v1.0.0")
    family.write("style/b", parent="style/a@v1.0.0")
    family.lock("style/b", "b")
    family.write("style/a", parent="style/b")

    assert family.input_of("style/a") == ParentInput(ref="style/b", tensors=tensors("b"))


def test_a_parent_that_is_not_there_names_the_child_and_near_names(family: Family) -> None:
    family.write("style/ink")
    family.write("style/wash", parent="style/imk")

    with pytest.raises(NotFoundError, match="the parent of style/wash is not here") as caught:
        family.parent_of("style/wash")

    assert "style/ink" in caught.value.why


def test_a_release_that_is_not_there_says_how_to_get_tags(family: Family) -> None:
    family.write("style/ink")
    family.commit()
    family.write("style/wash", parent="style/ink@v9.0.0")

    with pytest.raises(NotFoundError, match="style/ink@v9.0.0") as caught:
        family.parent_of("style/wash")

    assert "git fetch --tags" in caught.value.fix


def test_an_untrained_parent_is_to_be_trained_first(family: Family) -> None:
    family.write("style/ink")
    family.write("style/wash", parent="style/ink")

    with pytest.raises(NotFoundError, match="not trained yet") as caught:
        family.parent_of("style/wash")

    assert caught.value.fix == "lorareg train style/ink"


def test_a_recipe_is_no_parent(family: Family) -> None:
    family.write("style/wash", parent="recipe/both")

    with pytest.raises(LoraregError, match="is a recipe"):
        family.parent_of("style/wash")


@pytest.mark.parametrize("text", ["ink", "style/ink@stable", "style/ink@1.0", "../ink", "x.pt"])
def test_a_parent_that_names_no_state_for_good_is_refused_with_the_manifest(
    family: Family, text: str
) -> None:
    family.write("style/wash", parent=text)

    with pytest.raises(InvalidFileError) as caught:
        family.parent_of("style/wash")

    assert "parent: expected kind/name, or kind/name@v1.0.0" in caught.value.why


def test_a_file_stays_the_parent_until_the_manifest_names_one(family: Family) -> None:
    file = ParentInput(ref="old.safetensors", tensors=tensors("f"), file=True)
    family.write("style/wash")
    family.commit()
    family.lock("style/wash", "b", parent=file)

    assert family.input_of("style/wash") == file

    family.write("style/ink")
    family.lock("style/ink", "a")
    family.write("style/wash", parent="style/ink")
    assert family.input_of("style/wash") == ParentInput(ref="style/ink", tensors=tensors("a"))


def test_a_parent_that_left_the_manifest_is_no_longer_one(family: Family) -> None:
    family.write("style/ink")
    family.lock("style/ink", "a")
    family.write("style/wash")
    family.commit()
    family.lock("style/wash", "b", parent=ParentInput(ref="style/ink", tensors=tensors("a")))

    assert family.input_of("style/wash") is None


def test_the_lineage_goes_back_to_the_first_adapter(family: Family) -> None:
    first = ParentInput(ref="seed.safetensors", tensors=tensors("0"), file=True)
    family.write("style/a")
    family.commit()
    family.lock("style/a", "a", parent=first)
    family.commit()
    second = ParentInput(ref="style/a", tensors=tensors("a"))
    family.write("style/b", parent="style/a")
    family.lock("style/b", "b", parent=second)
    family.commit()
    third = ParentInput(ref="style/b", tensors=tensors("b"))
    family.write("style/c", parent="style/b")
    family.lock("style/c", "c", parent=third)

    assert lineage.ancestors(family.workspace, family.loaded("style/c")) == [third, second, first]


def test_the_lineage_finds_a_parent_that_was_trained_anew_since_in_the_history(
    family: Family,
) -> None:
    first = ParentInput(ref="seed.safetensors", tensors=tensors("0"), file=True)
    family.write("style/a")
    family.commit()
    family.lock("style/a", "a", parent=first)
    family.commit()
    second = ParentInput(ref="style/a", tensors=tensors("a"))
    family.write("style/b", parent="style/a")
    family.lock("style/b", "b", parent=second)
    family.lock("style/a", "d")

    assert lineage.ancestors(family.workspace, family.loaded("style/b")) == [second, first]


@pytest.mark.parametrize(
    ("before", "now", "line"),
    [
        ("a", "a", []),
        ("a", "b", ["parent: style/ink has other weights now"]),
        ("a", None, ["parent: style/ink, the parent of style/wash, is not trained yet"]),
        (None, "a", ["parent: none -> style/ink"]),
    ],
)
def test_a_parent_that_changed_makes_the_child_stale(
    family: Family, before: str | None, now: str | None, line: list[str]
) -> None:
    family.write("style/ink")
    family.write("style/wash", parent="style/ink")
    family.commit()
    parent = ParentInput(ref="style/ink", tensors=tensors(before)) if before else None
    family.lock("style/wash", "c", parent=parent)
    if now:
        family.lock("style/ink", now)

    changes = changed_inputs(
        family.workspace,
        family.workspace.load_manifest(AssetId("style", "wash")),
        family.loaded("style/wash"),
    )

    assert [change for change in changes if "parent" in change] == line


def test_a_release_with_the_same_weights_is_no_change(family: Family) -> None:
    family.write("style/ink")
    family.lock("style/ink", "a")
    family.commit("style/ink@v1.0.0")
    family.write("style/wash", parent="style/ink@v1.0.0")
    family.lock("style/wash", "c", parent=ParentInput(ref="style/ink", tensors=tensors("a")))

    changes = changed_inputs(
        family.workspace,
        family.workspace.load_manifest(AssetId("style", "wash")),
        family.loaded("style/wash"),
    )

    assert not [change for change in changes if "parent" in change]


def test_a_child_that_more_people_may_see_than_a_parent_is_named_and_not_pushed(
    family: Family,
) -> None:
    for name, parent in (("ink", None), ("wash", "style/ink"), ("line", "style/wash")):
        family.write(f"style/{name}", parent=parent)
        family.commit()
        before = family.input_of(f"style/{name}")
        family.lock(f"style/{name}", {"ink": "a", "wash": "b", "line": "c"}[name], parent=before)
    line = AssetId("style", "line")
    family.workspace.edit_manifest(AssetId("style", "ink"), {"visibility": "private"})

    child, known = family.workspace.load_manifest(line), family.loaded("style/line")
    findings = verify.verify(family.workspace, line)
    with pytest.raises(LoraregError, match="style/line is team, but it descends from") as caught:
        pushing.push(family.workspace, [line], print)

    assert lineage.hidden_ancestors(family.workspace, child, known) == ["style/ink (private)"]
    (finding,) = [each for each in findings if each.what == "visibility"]
    assert not finding.ok
    assert "style/ink (private)" in finding.detail
    assert "nothing was pushed" in caught.value.why
    family.workspace.edit_manifest(line, {"visibility": "private"})
    child = family.workspace.load_manifest(line)
    assert lineage.hidden_ancestors(family.workspace, child, known) == []
