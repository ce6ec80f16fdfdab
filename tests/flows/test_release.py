"""Releases on the command line: planned, made, looked at, taken back."""

from __future__ import annotations

from tests.flows.conftest import lorareg
from tests.registry.releases import conftest as shared
from tests.registry.releases.team import OTHER, STYLE, Person

keys, template, alice, team = shared.keys, shared.template, shared.alice, shared.team
_git_of_its_own = shared._git_of_its_own


def test_a_release_is_planned_made_verified_logged_and_taken_back(team: Person) -> None:
    root = team.root
    head = team.git("rev-parse", "HEAD")

    planned = lorareg(root, "release", "ink", "--dry-run")
    assert planned.code == 0, planned.err
    assert "would become v1.0.0 (major); nothing was written" in planned.out
    assert (team.git("rev-parse", "HEAD"), team.git("tag", "--list")) == (head, "")

    first = lorareg(root, "release", "ink", "--json")
    assert first.code == 0, first.err
    assert first.json["asset"] == "style/ink"
    assert first.json["reasons"] == ["major: the first release"]
    assert first.json["tag"] == team.git("rev-parse", "style/ink@v1.0.0")

    team.set_keys(STYLE, trigger="zzother")
    team.train(STYLE, OTHER)
    second = lorareg(root, "release", "ink")
    assert second.code == 0, second.err
    assert "major  trigger: zzink -> zzother" in second.out
    assert "released style/ink@v2.0.0 (major)" in second.out

    verified = lorareg(root, "verify", "ink", "--json").json["style/ink"]
    released = [each for each in verified if each["what"].startswith("release ")]
    assert [(each["what"], each["ok"]) for each in released] == [
        ("release v1.0.0", True),
        ("release v2.0.0", True),
    ]
    assert all("signed by alice" in each["detail"] for each in released)
    assert [row["version"] for row in lorareg(root, "list", "--json").json] == ["v2.0.0"]
    assert lorareg(root, "show", "ink", "--json").json["version"] == "v2.0.0"
    assert "v2.0.0" in lorareg(root, "list").out

    back = lorareg(root, "rollback", "ink@v1.0.0")
    assert back.code == 0, back.err
    assert "style/ink is as it was at v1.0.0" in back.out
    assert "major: trigger: zzother -> zzink" in back.out
    told = lorareg(root, "log", "ink", "-n", "2").out
    assert "    trigger: zzother -> zzink" in told
    assert "    released v2.0.0 (major)" in told
    assert lorareg(root, "log", "ink", "--json").json[0]["by"] == "alice"


def test_an_unsigned_tag_fails_verify_in_a_team_and_is_a_warning_in_a_registry_of_one(
    alice: Person,
) -> None:
    alice.git("tag", "style/ink@v1.0.0")

    remark = lorareg(alice.root, "verify", "ink")

    assert "warn style/ink release v1.0.0  unsigned" in remark.out
    assert lorareg(alice.root, "release", "ink", "--minor").code == 2
    alice.git("tag", "-d", "style/ink@v1.0.0")
    made = lorareg(alice.root, "release", "ink")
    assert "nobody can say whose key that is" in made.err
    alice.git("tag", "style/ink@v1.0.1")
    answer = lorareg(alice.root, "verify", "ink")
    assert answer.code == 1
    assert "FAIL style/ink release v1.0.1" in answer.out


def test_two_steps_at_once_and_a_refusal_in_json_are_told_in_words(alice: Person) -> None:
    both = lorareg(alice.root, "release", "ink", "--major", "--patch")
    alice.git("config", "--unset", "user.signingKey")
    refused = lorareg(alice.root, "release", "ink", "--json")

    assert (both.code, refused.code) == (2, 2)
    assert "one step at a time" in both.err
    assert "git config gpg.format ssh" in refused.json["error"]["fix"]
