from __future__ import annotations

import re

from lorareg.registry.access import codeowners, policy
from lorareg.registry.workspace import Workspace
from tests.registry.access.team import Team


def rules_of(workspace: Workspace) -> str:
    known = policy.load(workspace)
    assert known
    return codeowners.text(workspace, known)


def asked(text: str, path: str) -> set[str]:
    """Whom a git host asks about a path: the last rule that fits, as gitignore patterns fit."""
    found: set[str] = set()
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        pattern, *people = line.split()
        inside = re.escape(pattern.strip("/")).replace(r"\*", "[^/]*")
        anchor = "^" if pattern.startswith("/") else "(^|.*/)"
        end = "/.*" if pattern.endswith("/") else "(/.*)?"
        if re.search(f"{anchor}{inside}{end}$", path):
            found = set(people)
    return found


def test_owners_and_maintainers_are_asked_about_an_asset(team: Team) -> None:
    text = rules_of(team.workspace)

    assert asked(text, "manifests/character/zhangsan/manifest.yaml") == {
        "@alice-chen",
        "@bob",
        "@carol-c",
    }
    assert asked(text, "manifests/style/ink/lock.json") == {"@bob", "@carol-c"}


def test_those_who_may_add_a_kind_are_asked_about_a_new_asset_of_it(team: Team) -> None:
    text = rules_of(team.workspace)

    assert asked(text, "manifests/character/lisi/manifest.yaml") == {
        "@alice-chen",
        "@bob",
        "@carol-c",
    }


def test_only_maintainers_are_asked_about_the_policy_and_this_file(team: Team) -> None:
    text = rules_of(team.workspace)

    for path in ("manifests/policy.yaml", "manifests/allowed_signers", "CODEOWNERS"):
        assert asked(text, path) == {"@carol-c"}
    assert asked(text, ".github/workflows/lorareg.yml") == {"@carol-c"}
    assert asked(text, "README.md") == {"@carol-c"}


def test_promoters_are_asked_about_a_protected_channel(team: Team) -> None:
    channels = "manifests/character/zhangsan/channels.yaml"
    team.write(channels, "schema: lorareg/1\ncanary: v1.1.0\n")
    open_channel = asked(rules_of(team.workspace), channels)
    team.write(channels, "schema: lorareg/1\nstable: v1.0.0\n")
    text = rules_of(team.workspace)

    assert open_channel == {"@alice-chen", "@bob", "@carol-c"}
    assert asked(text, channels) == {"@dora"}
    assert asked(text, "manifests/character/zhangsan/signature.json") > {"@dora", "@bob"}
    assert "@dora" not in asked(text, "manifests/character/zhangsan/manifest.yaml")


def test_the_same_policy_gives_the_same_file(team: Team) -> None:
    first = rules_of(team.workspace)
    team.replace("manifests/policy.yaml", "[alice, bob]", "[bob, alice]")

    assert rules_of(team.workspace) == first


def test_an_owner_without_a_name_on_the_host_is_a_finding_and_never_an_empty_rule(
    team: Team,
) -> None:
    team.replace("manifests/policy.yaml", ", github: bob", "")
    team.replace("manifests/policy.yaml", ", github: carol-c", "")
    known = policy.load(team.workspace)
    assert known

    found = codeowners.findings(team.workspace, known)

    named = [finding.what for finding in found if not finding.ok]
    assert named == ["CODEOWNERS", "people.bob", "people.carol"]
    assert "policy add bob --github" in found[1].fix


def test_a_file_that_was_edited_is_found(team: Team) -> None:
    known = policy.load(team.workspace)
    assert known
    team.write("CODEOWNERS", codeowners.text(team.workspace, known))
    before = codeowners.findings(team.workspace, known)[0]
    team.replace("CODEOWNERS", "@carol-c", "@mallory")

    assert before.ok
    assert (
        "is not what policy and manifests say"
        in codeowners.findings(team.workspace, known)[0].detail
    )
