from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorareg.errors import InvalidFileError, LoraregError, NotFoundError
from lorareg.registry.access import authority, founding, people, policy, signatures, standing
from lorareg.registry.access.people import Entry
from tests.registry.access.team import INK, ZHANGSAN, Team

FOLDER = "manifests/character/zhangsan"


def rules(**changes: Any) -> policy.Policy:
    document = {
        "schema": "lorareg/1",
        "people": {"alice": {}, "bob": {}, "carol": {}},
        "groups": {"a": ["alice", "group:b"], "b": ["bob"]},
        "roles": {"maintainer": ["carol"]},
    }
    return policy.parse(document | changes)


def test_groups_hold_people_and_groups() -> None:
    assert rules().expand(["group:a"]) == {"alice", "bob"}
    assert rules().expand(["group:everyone"]) == {"alice", "bob", "carol"}
    assert rules().expand(["stranger", "group:unknown"]) == frozenset()


def test_an_asset_without_known_owners_is_its_kinds() -> None:
    known = rules(kinds={"style": ["bob"], "*": ["carol"]})

    assert known.owners("style", ["alice"]) == {"alice"}
    assert known.owners("style", ["gone"]) == {"bob"}
    assert known.owners("tone", []) == {"carol"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"groups": {"a": ["dave"]}}, "neither in people nor in groups: dave"),
        ({"groups": {"a": ["group:b"], "b": ["group:a"]}}, "contain themselves: a, b"),
        ({"groups": {"everyone": ["bob"]}}, "everyone is built in"),
        ({"roles": {"maintainer": []}}, "roles.maintainer"),
        ({"groups": {"a": []}, "roles": {"maintainer": ["group:a"]}}, "nobody is left"),
        ({"channels": {"stable": []}}, "channels.stable"),
        ({"peple": {}}, "did you mean people?"),
    ],
)
def test_a_policy_that_cannot_work_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidFileError) as caught:
        rules(**changes)

    assert problem in caught.value.why


def test_who_works_here_is_known_by_the_key_before_the_mail(team: Team) -> None:
    team.sit_down("alice")
    team.git("config", "user.email", "bob@example.org")

    assert policy.me(team.workspace) == "alice"


def test_every_asset_that_may_not_be_changed_is_named_before_anything_is_written(
    team: Team,
) -> None:
    for folder in (FOLDER, "manifests/style/ink"):
        team.replace(f"{folder}/manifest.yaml", "trigger: z", "trigger: y")
    before = (team.root / FOLDER / "signature.json").read_bytes()

    with pytest.raises(LoraregError) as caught:
        team.signed_commit("dora", ZHANGSAN, INK)

    assert caught.value.what == "you may not change character/zhangsan, style/ink"
    assert "you are dora by the key of git config user.signingKey" in caught.value.why
    assert "character/zhangsan: those who may are alice, bob, carol" in caught.value.why
    assert (team.root / FOLDER / "signature.json").read_bytes() == before


def test_a_key_that_the_policy_does_not_know_signs_nothing(team: Team) -> None:
    team.replace(f"{FOLDER}/manifest.yaml", "trigger: z", "trigger: y")

    with pytest.raises(LoraregError) as caught:
        team.signed_commit("mallory", ZHANGSAN)

    assert caught.value.what == "the policy does not know your key"
    assert "lorareg policy add YOU --key" in caught.value.fix


def test_nothing_is_signed_on_top_of_what_nobody_signed(team: Team) -> None:
    team.replace(f"{FOLDER}/lock.json", '"asset"', '"asset" ')
    team.plain_commit("attack")
    team.replace(f"{FOLDER}/manifest.yaml", "trigger: z", "trigger: y")

    with pytest.raises(LoraregError) as caught:
        team.signed_commit("alice", ZHANGSAN)

    assert "lock.json is not what alice signed" in caught.value.why
    assert caught.value.fix.endswith("lorareg policy sign character/zhangsan")


def test_a_folder_that_did_not_change_is_not_signed_again(team: Team) -> None:
    assert signatures.commit(team.sit_down("bob"), [ZHANGSAN], "nothing") is None


def test_a_removed_policy_does_not_let_anybody_commit_unsigned(team: Team) -> None:
    (team.root / "manifests/policy.yaml").unlink()
    team.replace(f"{FOLDER}/manifest.yaml", "trigger: z", "trigger: y")

    with pytest.raises(LoraregError, match=r"policy.yaml is missing"):
        team.signed_commit("alice", ZHANGSAN)


def test_only_maintainers_change_the_policy(team: Team) -> None:
    with pytest.raises(LoraregError, match="you may not change the policy") as caught:
        founding.change(team.sit_down("alice"), "me too", entry=Entry("alice", {}, (), True))

    assert "you are alice" in caught.value.why
    assert team.git("status", "--short") == ""


def test_a_person_is_entered_with_a_key_in_one_signed_commit_and_comments_stay(team: Team) -> None:
    entry = Entry("mia", {"mail": "mia@example.org"}, ("writers",), key=team.public("mallory"))

    founding.change(team.sit_down("carol"), "Add mia", entry=entry)

    known = policy.load(team.workspace)
    assert known
    assert known.expand(["group:writers"]) == {"mia"}
    assert "people:  # everybody who has a key" in (team.root / policy.FILE).read_text()
    assert all(finding.ok for finding in authority.policy_findings(team.workspace))
    assert set(team.git("show", "--name-only", "--format=").split()) == {
        "CODEOWNERS",
        "manifests/allowed_signers",
        "manifests/policy.signature.json",
        "manifests/policy.yaml",
    }


def test_a_key_is_rotated_and_what_the_old_one_signed_holds(team: Team) -> None:
    workspace = team.sit_down("carol")
    founding.change(workspace, "new", entry=Entry("alice", {}, key=team.public("mallory")))
    founding.change(workspace, "old", gone=("alice", team.public("alice")))
    team.replace(f"{FOLDER}/manifest.yaml", "trigger: z", "trigger: y")
    before = authority.check(team.workspace, ZHANGSAN)
    team.signed_commit("mallory", ZHANGSAN)  # it is alice who has this key now

    assert [finding.detail for finding in before] == ["by alice, serial 1"]
    assert [f.detail for f in authority.check(team.workspace, ZHANGSAN)] == ["by alice, serial 2"]


def test_the_last_maintainer_cannot_be_removed(team: Team) -> None:
    with pytest.raises(InvalidFileError):
        founding.change(team.sit_down("carol"), "leave", gone=("carol", None))

    assert team.git("status", "--short") == ""


def test_two_people_cannot_have_one_key(team: Team) -> None:
    with pytest.raises(LoraregError, match="this key is that of alice"):
        people.add(team.workspace, Entry("bob", {}, key=team.public("alice")))


def test_a_private_key_is_never_read_into_the_registry(team: Team) -> None:
    with pytest.raises(LoraregError, match="is a private key"):
        people.public_key(team.keys / "alice")


def test_a_key_that_cannot_sign_leaves_the_policy_as_it_was(team: Team, tmp_path: Path) -> None:
    workspace = team.sit_down("carol")
    alone = tmp_path / "carol.pub"
    alone.write_text(team.public("carol"))
    team.git("config", "user.signingKey", str(alone))

    with pytest.raises(LoraregError, match="did not sign"):
        founding.change(workspace, "Add mia", entry=Entry("mia", {"mail": "mia@example.org"}))

    assert team.git("status", "--short") == ""


def test_somebody_who_is_not_there_cannot_be_removed(team: Team) -> None:
    with pytest.raises(NotFoundError, match="there is no mia"):
        people.remove(team.workspace, "mia")


def test_where_there_is_no_policy_nothing_is_signed(tmp_path: Path) -> None:
    team = Team(tmp_path, tmp_path)
    team.git("init", "--quiet", "--initial-branch=main")
    team.git("config", "user.name", "One")
    team.git("config", "user.email", "one@example.org")
    team.asset(ZHANGSAN)

    made = signatures.commit(team.workspace, [ZHANGSAN], "mine")

    assert made
    assert not (tmp_path / FOLDER / "signature.json").exists()
    assert standing.NOBODY.person == ""
