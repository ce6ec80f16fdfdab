"""Members with planted licences, scopes and consents, and what may be done with them together."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from lorareg.registry import rights
from lorareg.registry.finding import Finding
from lorareg.registry.manifest import ImageManifest, TextManifest
from lorareg.registry.rights import Grant

TODAY = datetime.date(2027, 6, 1)
FREE = {"commercial": "resale"}


def member(name: str, license_: str | None, **rest: Any) -> list[Grant]:
    return rights.of_member(f"style/{name}", manifest(name, license_, **rest))


def manifest(name: str, license_: str | None, sources: tuple[str, ...] = (), **rest: Any) -> Any:
    task = rest.pop("task", "text-to-image")
    document = {
        "schema": "lorareg/1", "kind": "style", "name": name, "task": task,
        "base": {"model": "builtin:avatar"}, "owners": ("alice",),
        "dataset": {
            "path": "data/x",
            "sources": tuple({"title": f"Source {n}", "license": n} for n in sources),
            "contains_personal_data": rest.pop("personal", False),
        },
        "license": {"id": license_} if license_ else None,
    } | rest  # fmt: skip
    model = ImageManifest if task == "text-to-image" else TextManifest
    return model.model_validate(document)


def found(
    *grants: list[Grant], merged: bool = True, today: datetime.date = TODAY
) -> dict[str, Finding]:
    every = [grant for some in grants for grant in some]
    return {each.what: each for each in rights.check(every, merged=merged, today=today)}


def test_the_narrowest_of_members_sources_and_base_holds() -> None:
    grants = [
        *member("a", "MIT", scope={"commercial": "services"}),
        *member("b", "CC-BY-4.0", sources=("CC-BY-NC-4.0",), scope=FREE),
        rights.of_base("builtin:avatar", "CC-BY-4.0"),
    ]

    assert rights.meet(grants).commercial == "none"
    assert rights.meet(grants[:2]).commercial == "services"


def test_no_derivatives_forbids_a_merged_file_and_allows_the_recipe() -> None:
    closed = member("a", "CC-BY-ND-4.0", scope=FREE)

    merged, recipe = found(closed)["merging"], found(closed, merged=False)["merging"]

    assert not merged.ok
    assert merged.is_hard
    assert "style/a (CC-BY-ND-4.0)" in merged.detail
    assert recipe.ok
    assert "only as a recipe" in recipe.detail


@pytest.mark.parametrize("scope", [{"merge": False}, {"derivatives": False}])
def test_a_scope_that_forbids_merging_is_obeyed_like_a_licence(scope: dict[str, Any]) -> None:
    assert not found(member("a", "MIT", scope=FREE | scope))["merging"].ok


def test_share_alike_beside_a_permissive_licence_names_the_merged_files_licence() -> None:
    answer = found(
        member("a", "CC-BY-SA-4.0", scope=FREE | {"credit": False}), member("b", "MIT", scope=FREE)
    )

    assert answer["share-alike"].ok
    assert "cc-by-sa-4.0 or gpl-3.0" in answer["share-alike"].detail


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"license_": "CC-BY-NC-SA-4.0", "scope": FREE}, "no licence satisfies"),
        ({"license_": "CC-BY-NC-4.0", "scope": FREE}, "kept back by style/b (CC-BY-NC-4.0)"),
        ({"license_": "MIT", "scope": {"commercial": "images"}}, "kept back by style/b"),
        (
            {"license_": "MIT", "scope": FREE | {"expires": datetime.date(2030, 1, 1)}},
            "kept back by style/b",
        ),
    ],
)
def test_share_alike_is_hard_for_a_merged_file_where_another_member_withholds_something(
    other: dict[str, Any], said: str
) -> None:
    members = member("a", "CC-BY-SA-4.0", scope=FREE), member("b", **other)

    merged, recipe = found(*members)["share-alike"], found(*members, merged=False)["share-alike"]

    assert not merged.ok
    assert merged.is_hard
    assert said in merged.detail
    assert recipe.ok


def test_a_scope_is_over_the_day_after_it_ends() -> None:
    ends = member("a", "MIT", scope=FREE | {"expires": TODAY})

    assert "scope of style/a" not in found(ends)
    over = found(ends, today=TODAY + datetime.timedelta(days=1))["scope of style/a"]
    assert not over.ok
    assert over.is_hard
    assert "2027-06-01" in over.detail


def test_unknown_and_missing_licences_are_one_warning_that_names_them_all() -> None:
    answer = found(
        member("a", "house rules", scope=FREE),
        member("b", None, scope=FREE),
        [rights.of_base("base", None)],
    )["licences"]

    assert not answer.ok
    assert not answer.is_hard
    for name in ("style/a (house rules)", "style/b (none given)", "base base (none given)"):
        assert name in answer.detail


def test_an_adapter_that_promises_more_than_its_data_allow_is_named() -> None:
    answer = found(member("a", "MIT", sources=("CC-BY-NC-4.0",), scope=FREE))["scope of style/a"]

    assert not answer.is_hard
    assert "source Source CC-BY-NC-4.0 of style/a" in answer.detail


def test_everybody_whose_licence_asks_for_it_is_credited() -> None:
    grants = member("a", "CC-BY-4.0", sources=("CC BY 4.0", "CC0 1.0"), scope={"credit": False})

    assert rights.meet(grants).credits == {
        "style/a by alice, CC-BY-4.0", "Source CC BY 4.0, CC BY 4.0"
    }  # fmt: skip


CONSENT = {"subject": "张三", "record": "contracts/2026-014"}


@pytest.mark.parametrize(
    ("given", "ok", "is_hard"),
    [
        ({}, True, True),
        ({"covers": ("Images",)}, True, True),
        ({"covers": ("text",)}, False, True),
        ({"expires": TODAY}, True, True),
        ({"expires": TODAY - datetime.timedelta(days=1)}, False, True),
    ],
)
def test_a_consent_must_cover_the_use_and_not_have_ended(
    given: dict[str, Any], ok: bool, is_hard: bool
) -> None:
    (answer,) = rights.consent("style/a", manifest("a", "MIT", consent=CONSENT | given), TODAY)

    assert (answer.ok, answer.is_hard) == (ok, is_hard)
    assert "张三" in answer.detail


def test_a_consent_to_pictures_is_none_to_texts() -> None:
    asked = manifest("a", "MIT", consent=CONSENT, task="text-generation")

    (answer,) = rights.consent("style/a", asked, TODAY)

    assert not answer.ok
    assert "not to text" in answer.detail


def test_personal_data_without_a_recorded_consent_is_a_warning() -> None:
    (answer,) = rights.consent("style/a", manifest("a", "MIT", personal=True), TODAY)

    assert (answer.ok, answer.is_hard) == (False, False)
    assert list(rights.consent("style/a", manifest("a", "MIT"), TODAY)) == []
