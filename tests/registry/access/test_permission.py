from __future__ import annotations

import datetime
import json

import pytest

from lorareg.errors import LoraregError
from lorareg.registry.access import grants, permission, policy, stewards
from lorareg.registry.access.grants import USES, Grant, Use
from lorareg.registry.access.uses import PURPOSE
from tests.registry.access.team import INK, ZHANGSAN, Team

TODAY = datetime.date(2026, 11, 22)
TOMORROW = TODAY + datetime.timedelta(days=1)
MANIFEST = "manifests/character/zhangsan/manifest.yaml"


def terms(team: Team, *lines: str) -> None:
    """Add lines to the manifest of zhangsan."""
    team.write(MANIFEST, "\n".join([(team.root / MANIFEST).read_text().rstrip(), *lines, ""]))


def grant(team: Team, who: str, purpose: str = "trailer", **more: object) -> None:
    new = Grant(who=who, purpose=purpose, by="alice", on=TODAY, **more)  # type: ignore[arg-type]
    changed = grants.given(team.workspace, ZHANGSAN, new)
    grants.write(team.workspace, ZHANGSAN, changed)


def refusal(team: Team, person: str, use: Use = "generate") -> LoraregError | None:
    """What this person is told who wants to use zhangsan today; None if they may."""
    try:
        permission.require(team.sit_down(person), ZHANGSAN, use, TODAY)
    except LoraregError as error:
        return error
    return None


def may(team: Team, person: str, use: Use = "generate") -> bool:
    return refusal(team, person, use) is None


@pytest.mark.parametrize("use", [use for use in USES if use != "publish"])
def test_what_is_private_is_for_owners_and_maintainers(team: Team, use: Use) -> None:
    terms(team, "visibility: private")

    allowed = {person: may(team, person, use) for person in ("alice", "bob", "carol", "dora")}

    assert allowed == {"alice": True, "bob": True, "carol": True, "dora": False}


def test_what_is_the_team_s_is_for_everybody_in_the_policy(team: Team) -> None:
    assert may(team, "dora")
    assert not may(team, "mallory")


def test_the_role_of_users_narrows_the_team(team: Team) -> None:
    team.replace(
        "manifests/policy.yaml", "maintainer: [carol]", "maintainer: [carol]\n  user: [bob]"
    )

    assert may(team, "bob")
    assert not may(team, "dora")


def test_what_nobody_entitled_signed_is_for_nobody_until_somebody_stands_for_it(
    team: Team,
) -> None:
    team.replace(MANIFEST, "trigger: zzhangsan", "trigger: evil")
    edited = may(team, "alice")
    team.plain_commit()
    refused = refusal(team, "alice")

    assert edited
    assert may(team, "alice", "train")
    assert refused
    assert "manifest.yaml is not what alice signed" in refused.why
    assert refused.fix.endswith("lorareg policy sign character/zhangsan")


def test_what_is_public_is_for_everybody(team: Team) -> None:
    terms(team, "visibility: public")

    assert may(team, "mallory", "export")


@pytest.mark.parametrize("visibility", ["private", "team", "public"])
def test_publishing_is_for_owners_and_maintainers_whoever_may_use_it(
    team: Team, visibility: str
) -> None:
    terms(team, f"visibility: {visibility}")

    assert may(team, "alice", "publish")
    assert may(team, "carol", "publish")
    assert not may(team, "dora", "publish")


def test_a_refusal_says_who_lorareg_takes_them_for_and_whom_to_ask(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms(team, "visibility: private")
    monkeypatch.setenv(PURPOSE, "game trailer")

    told = refusal(team, "dora")

    assert told
    assert told.what == "you may not generate with character/zhangsan"
    assert told.why == (
        "it is private to its owners and maintainers, and lorareg knows you as dora (by git's "
        "signing key or user.email), without a grant"
    )
    assert told.fix == (
        "ask alice, bob: lorareg access grant character/zhangsan dora --purpose 'game trailer'"
    )


def test_whom_the_policy_does_not_know_is_told_how_to_get_into_it(team: Team) -> None:
    told = refusal(team, "mallory")

    assert told
    assert "lorareg does not know you" in told.why
    assert told.fix.startswith("ask carol to add you to manifests/policy.yaml, then alice, bob: ")


def test_a_grant_allows_its_purpose_to_its_person(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms(team, "visibility: private")
    grant(team, "dora", "game trailer")
    monkeypatch.setenv(PURPOSE, "Game trailer")

    assert may(team, "dora")
    assert not may(team, "mallory")


def test_another_purpose_or_none_is_not_allowed_and_the_words_are_told(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms(team, "visibility: private")
    grant(team, "dora", "game trailer")

    silent = refusal(team, "dora")
    monkeypatch.setenv(PURPOSE, "casino")
    other = refusal(team, "dora")

    assert silent
    assert silent.why.endswith("with a grant for 'game trailer', and no purpose was said")
    assert "lorareg --purpose 'game trailer' COMMAND" in silent.fix
    assert other
    assert other.why.endswith("with a grant for 'game trailer', not 'casino'")


def test_a_grant_ends_after_its_last_day(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    terms(team, "visibility: private")
    grant(team, "dora", until=TODAY)
    monkeypatch.setenv(PURPOSE, "trailer")
    workspace = team.sit_down("dora")

    permission.require(workspace, ZHANGSAN, "generate", TODAY)
    with pytest.raises(LoraregError) as refused:
        permission.require(workspace, ZHANGSAN, "generate", TOMORROW)

    assert refused.value.why.endswith(f"with a grant that expired on {TODAY}")


def test_a_grant_for_some_uses_allows_no_others(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms(team, "visibility: private")
    grant(team, "dora", scope=("generate", "pull"))
    monkeypatch.setenv(PURPOSE, "trailer")

    assert may(team, "dora", "generate")
    told = refusal(team, "dora", "export")
    assert told
    assert told.why.endswith("with a grant for other uses: generate, pull")


def test_only_a_grant_that_says_so_allows_publishing(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PURPOSE, "trailer")
    grant(team, "dora")
    assert not may(team, "dora", "publish")

    grant(team, "dora", scope=("publish",))

    assert may(team, "dora", "publish")


def test_expired_terms_bind_the_owner_too(team: Team) -> None:
    terms(team, "scope: {expires: 2026-11-21}")

    told = refusal(team, "alice")

    assert told
    assert told.why == "its scope expired on 2026-11-21"
    assert "scope.expires in manifests/character/zhangsan/manifest.yaml" in told.fix


def test_terms_hold_on_their_last_day(team: Team) -> None:
    terms(
        team,
        "scope: {expires: 2026-11-22}",
        "consent: {subject: Zhang, record: c/14, covers: [image], expires: 2026-11-22}",
    )

    assert may(team, "alice")


def test_everything_that_speaks_against_it_is_said_at_once(team: Team) -> None:
    terms(
        team,
        "visibility: private",
        "scope: {expires: 2026-11-20}",
        "consent: {subject: Zhang, record: c/14, covers: [image], expires: 2026-11-21}",
    )

    told = refusal(team, "dora")

    assert told
    for part in ("scope expired on 2026-11-20", "consent of Zhang (c/14) expired", "as dora"):
        assert part in told.why


def test_without_a_policy_only_expiry_and_revocation_bind(team: Team) -> None:
    terms(team, "visibility: private")
    (team.root / "manifests/policy.yaml").unlink()
    assert may(team, "mallory", "publish")

    terms(team, "scope: {expires: 2026-11-21}")

    assert not may(team, "mallory")


def test_a_child_may_be_trained_by_who_may_train_from_its_parent(team: Team) -> None:
    terms(team, "visibility: private")
    team.replace("manifests/style/ink/manifest.yaml", "owners: [bob]", "owners: [dora]")
    team.write(
        "manifests/style/ink/manifest.yaml",
        (team.root / "manifests/style/ink/manifest.yaml").read_text()
        + "parent: character/zhangsan\n",
    )
    child = team.workspace.load_manifest(INK)

    with pytest.raises(LoraregError, match="you may not train character/zhangsan"):
        permission.require_training(team.sit_down("dora"), child)

    permission.require_training(team.sit_down("carol"), child)


def test_a_recipe_is_for_who_may_use_every_member(team: Team) -> None:
    terms(team, "visibility: private")
    member = {
        "ref": "character/zhangsan", "weight": 1.0, "commit": None, "file": "w.safetensors",
        "sha256": "sha256:" + "0" * 64, "tensors": "tensors-sha256-v1:" + "0" * 64,
    }  # fmt: skip
    lock = json.loads((team.root / "manifests/style/ink/lock.json").read_text())
    document = {
        "schema": "lorareg/lock/1", "asset": "recipe/mix", "task": "text-to-image",
        "base": lock["inputs"]["base"], "members": [member],
        "fingerprint": "recipe-sha256-v1:" + "0" * 64,
    }  # fmt: skip
    team.write("manifests/recipe/mix/lock.json", json.dumps(document))
    team.write(
        "manifests/recipe/mix/manifest.yaml",
        "schema: lorareg/1\nkind: recipe\nname: mix\n"
        "parts:\n  - {ref: character/zhangsan, weight: 1.0}\n",
    )
    mix = permission.AssetId("recipe", "mix")

    with pytest.raises(LoraregError, match="you may not pull character/zhangsan"):
        permission.require(team.sit_down("dora"), mix, "pull")

    permission.require(team.sit_down("bob"), mix, "pull")


@pytest.mark.parametrize(
    ("person", "told"),
    [
        ("alice", "alice: owner, user"),
        ("carol", "carol: maintainer, user"),
        ("dora", "dora: user, grant for 'trailer'"),
        ("mallory", "nobody the policy knows"),
    ],
)
def test_people_can_look_up_what_they_are_to_an_asset(team: Team, person: str, told: str) -> None:
    grant(team, "dora")

    workspace = team.sit_down(person)
    rules, name = policy.load(workspace), policy.me(workspace)

    assert stewards.role_of(workspace, ZHANGSAN, rules, name) == told


def test_only_owners_and_maintainers_decide_about_an_asset(team: Team) -> None:
    assert stewards.require(team.sit_down("alice"), ZHANGSAN, "revoke") == "alice"
    assert stewards.require(team.sit_down("carol"), ZHANGSAN, "revoke") == "carol"

    with pytest.raises(LoraregError) as refused:
        stewards.require(team.sit_down("dora"), ZHANGSAN, "revoke")

    assert refused.value.what == "you may not revoke character/zhangsan"
    assert "owners and maintainers are alice, bob, carol" in refused.value.why
