"""A team gives its registry a policy, works under it, is attacked and recovers."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from lorareg.registry import yamlfile
from lorareg.registry.access import authority
from tests.flows.conftest import git, lorareg
from tests.registry.access.team import ZHANGSAN, Team, isolated

FOLDER = "manifests/character/zhangsan"


@pytest.fixture(autouse=True)
def _git_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in isolated(tmp_path).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def team(tmp_path: Path) -> Team:
    """A registry of one, with one asset, and keys of three people."""
    keys = tmp_path / "keys"
    keys.mkdir()
    for person in ("carol", "alice", "dora"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / person)]
        subprocess.run(command, check=True)
    made = Team(tmp_path / "registry", keys)
    made.root.mkdir()
    made.git("init", "--quiet", "--initial-branch=main")
    made.write("lorareg.yaml", "schema: lorareg/1\nname: team\n")
    made.write(".gitignore", "/.lorareg/\n")
    made.asset(ZHANGSAN, owners="alice")
    made.git("config", "user.name", "Carol Chen")
    made.git("config", "user.email", "carol@example.org")
    made.plain_commit("a registry of one")
    return made


@pytest.fixture
def founded(team: Team) -> Team:
    key = str(team.keys / "carol.pub")
    assert lorareg(team.root, "policy", "init", "--key", key, "--github", "carol-c").code == 0
    added = ["--key", str(team.keys / "alice.pub"), "--github", "alice-chen"]
    assert lorareg(team.root, "policy", "add", "alice", *added).code == 0
    return team


def test_without_a_key_init_says_how_to_get_one_and_writes_nothing(team: Team) -> None:
    answer = lorareg(team.root, "policy", "init")

    assert answer.code == 2
    assert "git config gpg.format ssh" in answer.err
    assert team.git("status", "--short") == ""


def test_init_commits_everything_signed_and_again_changes_nothing(team: Team) -> None:
    key = str(team.keys / "carol.pub")
    first = lorareg(team.root, "policy", "init", "--key", key, "--github", "carol-c", "--json")
    second = lorareg(team.root, "policy", "init", "--json")

    assert json.loads(first.out)["commit"] == team.git("rev-parse", "HEAD")
    assert json.loads(second.out)["commit"] is None
    assert team.git("status", "--short") == ""
    assert (team.root / FOLDER / "signature.json").is_file()
    workflow = yamlfile.load(team.root / ".github/workflows/lorareg.yml")
    runs = [step.get("run", "") for step in workflow["jobs"]["policy"]["steps"]]
    assert "lorareg policy check" in runs
    assert json.loads(first.out)["root"] in "".join(runs)


def test_a_registry_may_begin_with_its_policy(team: Team, tmp_path: Path) -> None:
    new = Team(tmp_path / "new", team.keys)
    new.root.mkdir()
    new.git("init", "--quiet", "--initial-branch=main")
    new.write("lorareg.yaml", "schema: lorareg/1\nname: new\n")
    new.git("config", "user.name", "Carol Chen")
    new.git("config", "user.email", "carol@example.org")

    founded = lorareg(new.root, "policy", "init", "--key", str(team.keys / "carol.pub"))

    assert founded.code == 0, founded.err
    assert new.git("rev-list", "--count", "HEAD") == "1"
    assert lorareg(new.root, "policy", "check").code == 0


def test_check_is_silent_about_nothing_and_its_exit_status_says_it(founded: Team) -> None:
    good = lorareg(founded.root, "policy", "check")
    founded.replace(f"{FOLDER}/manifest.yaml", "owners: [alice]", "owners: [dora]")
    commit = founded.plain_commit("a takeover")
    bad = lorareg(founded.root, "policy", "check", "--json")

    assert good.code == 0, good.out
    assert bad.code == 1
    found = json.loads(bad.out)
    failed = {
        name: [f["detail"] for f in found[name] if not f["ok"] and f["is_hard"]] for name in found
    }
    assert failed["policy"] == []
    assert failed["character/zhangsan"] == [
        f"manifest.yaml is not what carol signed (commit {commit[:10]})",
        "neither people nor groups of the policy: dora",
    ]


def test_check_of_a_branch_looks_only_at_what_it_changed(founded: Team) -> None:
    founded.replace(f"{FOLDER}/lock.json", '"asset"', '"asset" ')
    founded.plain_commit("broken on main already")
    founded.git("checkout", "--quiet", "-b", "work")
    founded.write("README.md", "hello")
    founded.plain_commit()

    assert lorareg(founded.root, "policy", "check", "--base", "main").code == 0
    assert lorareg(founded.root, "policy", "check").code == 1


def test_verify_shows_the_signature(founded: Team) -> None:
    answer = lorareg(founded.root, "verify", "--json")

    signed = [f for f in json.loads(answer.out)["character/zhangsan"] if f["what"] == "signature"]
    assert [(f["ok"], f["detail"]) for f in signed] == [(True, "by carol, serial 1")]


def test_sign_shows_the_change_and_is_not_done_unasked(founded: Team) -> None:
    founded.replace(f"{FOLDER}/manifest.yaml", "zzhangsan", "zz")
    founded.plain_commit("by hand")
    founded.sit_down("alice")

    unasked = lorareg(founded.root, "policy", "sign")
    signed = lorareg(founded.root, "policy", "sign", "character/zhangsan", "--yes")

    assert unasked.code == 2
    assert "-trigger: zzhangsan\n+trigger: zz" in unasked.err
    assert "--yes" in unasked.err
    assert signed.code == 0, signed.err
    assert lorareg(founded.root, "policy", "check").code == 0


def test_after_a_removed_policy_a_maintainer_brings_it_back(founded: Team) -> None:
    founded.git("rm", "--quiet", "manifests/policy.yaml")
    founded.plain_commit("attack")
    attacked = lorareg(founded.root, "policy", "check")
    again = lorareg(founded.root, "policy", "init")
    founded.git("checkout", "--quiet", "HEAD~", "--", "manifests/policy.yaml")
    signed = lorareg(founded.root, "policy", "sign", "--yes")

    assert attacked.code == 1
    assert again.code == 2
    assert signed.code == 0, signed.err
    assert lorareg(founded.root, "policy", "check").code == 0


def test_an_invalid_edit_is_refused_with_every_problem(founded: Team) -> None:
    founded.replace("manifests/policy.yaml", "groups: {}", "groups: {a: [group:a, nobody]}")
    head = founded.git("rev-parse", "HEAD")

    answer = lorareg(founded.root, "policy", "apply")

    assert answer.code == 2
    assert "nobody" in answer.err
    assert founded.git("rev-parse", "HEAD") == head


def test_show_says_who_i_am_and_what_this_clone_trusts(founded: Team, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(founded.root), "clone")
    clone = Team(tmp_path / "clone", founded.keys)
    clone.sit_down("alice")

    there = json.loads(lorareg(clone.root, "policy", "show", "--json").out)
    here = json.loads(lorareg(founded.root, "policy", "show", "--json").out)

    assert there["root"] == here["root"]
    assert (there["me"], here["me"]) == ("alice", "carol")
    shutil.rmtree(clone.root)


def test_a_commit_from_before_the_policy_is_not_judged_by_it(founded: Team) -> None:
    founded.git("checkout", "--quiet", founded.git("rev-list", "--max-parents=0", "HEAD"))

    assert authority.check(founded.workspace, ZHANGSAN) == []
