from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lorareg.errors import IntegrityError
from lorareg.registry.access import authority, signatures
from lorareg.registry.access.ledger import Ledger
from lorareg.registry.ids import AssetId
from lorareg.registry.workspace import Workspace
from tests.registry.access.team import INK, MANIFEST, ZHANGSAN, Team, build

FOLDER = "manifests/character/zhangsan"


def problem(team: Team, asset: AssetId = ZHANGSAN) -> str:
    """What is wrong with an asset, in one line; empty where it holds."""
    found = authority.check(team.workspace, asset)
    return "; ".join(finding.detail for finding in found if not finding.ok)


def policy_problem(team: Team) -> str:
    found = authority.policy_findings(team.workspace)
    return "; ".join(finding.detail for finding in found if not finding.ok)


def take_over(team: Team) -> None:
    team.replace(f"{FOLDER}/manifest.yaml", "owners: [alice, bob]", "owners: [mallory]")


def promise(team: Team, person: str = "mallory") -> None:
    """Somebody enters themselves into the policy, as maintainer and with their key."""
    team.replace("manifests/policy.yaml", "maintainer: [carol]", f"maintainer: [carol, {person}]")
    team.replace("manifests/policy.yaml", "  dora: {", f"  {person}: {{}}\n  dora: {{")
    signers = "manifests/allowed_signers"
    team.write(signers, (team.root / signers).read_text() + f"{person} {team.public(person)}\n")


def signed_by_dora(team: Team) -> None:
    team.write(f"{FOLDER}/channels.yaml", "schema: lorareg/1\nstable: v1.0.0\n")
    team.signed_commit("dora")


def test_what_owners_and_maintainers_signed_holds(team: Team) -> None:
    assert problem(team) == problem(team, INK) == policy_problem(team) == ""


def test_a_registry_without_a_policy_has_nothing_to_check(tmp_path: Path) -> None:
    team = Team(tmp_path, tmp_path)
    team.git("init", "--quiet")
    team.git("config", "user.name", "One")
    team.git("config", "user.email", "one@example.org")
    team.asset(ZHANGSAN)
    team.plain_commit()

    assert authority.check(team.workspace, ZHANGSAN) == []
    authority.require(team.workspace, ZHANGSAN)


@pytest.mark.parametrize("name", ["manifest.yaml", "lock.json", "channels.yaml", "revoked.json"])
def test_a_plain_commit_of_any_governed_file_is_found(team: Team, name: str) -> None:
    file = team.root / FOLDER / name
    team.write(f"{FOLDER}/{name}", (file.read_text() if file.exists() else "") + "\n# hello\n")
    team.plain_commit()

    assert f"{name} is not what alice signed" in problem(team)
    assert problem(team, INK) == ""


def test_require_names_the_file_the_signer_and_what_to_do(team: Team) -> None:
    take_over(team)
    commit = team.plain_commit()

    with pytest.raises(IntegrityError) as caught:
        authority.require(team.workspace, ZHANGSAN)

    assert "manifest.yaml is not what alice signed" in caught.value.why
    assert commit[:10] in caught.value.why
    assert "lorareg policy sign character/zhangsan" in caught.value.fix


def test_a_strangers_key_under_an_owners_name_is_refused(team: Team) -> None:
    team.replace(f"{FOLDER}/manifest.yaml", "zzhangsan", "zz")
    team.forge_next(str(ZHANGSAN), by="alice", key="mallory")
    team.plain_commit()

    assert "is not signed by a key of alice" in problem(team)


def test_nobody_becomes_an_owner_and_signs_in_one_step(team: Team) -> None:
    team.replace(f"{FOLDER}/manifest.yaml", "owners: [alice, bob]", "owners: [dora]")
    team.forge_next(str(ZHANGSAN), by="dora", key="dora")
    team.plain_commit()

    assert "dora signed, but those who may are alice, bob, carol" in problem(team)


def test_nor_in_two_steps(team: Team) -> None:
    team.replace(f"{FOLDER}/manifest.yaml", "owners: [alice, bob]", "owners: [dora]")
    team.plain_commit()
    team.forge_next(str(ZHANGSAN), by="dora", key="dora")
    team.plain_commit()

    assert "dora signed, but those who may are alice, bob, carol" in problem(team)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_nobody_enters_the_policy_by_his_own_signature(team: Team, steps: int) -> None:
    promise(team)
    if steps > 1:
        team.plain_commit("the policy, unsigned")
    team.forge_next("policy", by="mallory", key="mallory")
    if steps > 2:
        team.plain_commit("the policy, signed by whom it would make a maintainer")
    take_over(team)
    team.forge_next(str(ZHANGSAN), by="mallory", key="mallory")
    team.plain_commit()

    assert "mallory signed, but only carol may" in policy_problem(team)
    assert "mallory is not in the policy's people" in problem(team)
    assert authority.owners_at(team.workspace, ZHANGSAN, "HEAD") == {"alice", "bob", "carol"}


def test_a_key_put_under_somebody_elses_name_signs_nothing(team: Team) -> None:
    signers = "manifests/allowed_signers"
    team.write(signers, (team.root / signers).read_text() + f"alice {team.public('mallory')}\n")
    team.plain_commit()
    take_over(team)
    team.forge_next(str(ZHANGSAN), by="alice", key="mallory")
    team.plain_commit()

    assert "is not signed by a key of alice" in problem(team)
    assert "allowed_signers is not what carol signed" in policy_problem(team)


def test_a_protected_channel_is_moved_by_its_promoters_only(team: Team) -> None:
    team.write(f"{FOLDER}/channels.yaml", "schema: lorareg/1\nstable: v1.0.0\n")
    team.forge_next(str(ZHANGSAN), by="alice", key="alice")
    team.plain_commit()

    assert "channel stable is protected: only dora may move it" in problem(team)


def test_a_promoter_moves_it_and_a_later_state_of_the_owner_holds(team: Team) -> None:
    signed_by_dora(team)
    team.replace(f"{FOLDER}/manifest.yaml", "zzhangsan", "zz")
    team.signed_commit("bob")

    assert problem(team) == ""


def test_a_promoter_who_is_no_owner_changes_nothing_else(team: Team) -> None:
    team.write(f"{FOLDER}/channels.yaml", "schema: lorareg/1\nstable: v1.0.0\n")
    team.replace(f"{FOLDER}/manifest.yaml", "zzhangsan", "zz")
    team.forge_next(str(ZHANGSAN), by="dora", key="dora")
    team.plain_commit()

    assert "dora signed, but those who may are alice, bob, carol" in problem(team)


def test_an_old_signed_state_put_back_is_a_replay(team: Team) -> None:
    old = shutil.copytree(team.root / FOLDER, team.root.parent / "old")
    team.replace(f"{FOLDER}/manifest.yaml", "owners: [alice, bob]", "owners: [alice]")
    team.signed_commit("alice")
    shutil.copytree(old, team.root / FOLDER, dirs_exist_ok=True)
    team.plain_commit("bob is an owner again")

    assert "is an old state: serial 1, but 2 was signed already" in problem(team)
    assert authority.owners_at(team.workspace, ZHANGSAN, "HEAD") == {"alice", "carol"}


def test_a_state_of_another_branch_does_not_follow_this_one(team: Team) -> None:
    team.git("checkout", "--quiet", "-b", "draft")
    team.replace(f"{FOLDER}/manifest.yaml", "zzhangsan", "draft")
    team.signed_commit("alice")
    team.git("checkout", "--quiet", "main")
    team.git("checkout", "--quiet", "draft", "--", FOLDER)
    serial, _ = team.statement(str(ZHANGSAN))
    team.forge(str(ZHANGSAN), "alice", "alice", serial, previous=None)
    team.plain_commit()

    assert "does not follow the state that alice signed (serial 1)" in problem(team)


def test_a_state_signed_for_another_asset_is_refused(team: Team) -> None:
    folder = team.root / "manifests/character/lisi"
    shutil.copytree(team.root / FOLDER, folder)
    team.write(
        "manifests/character/lisi/manifest.yaml",
        MANIFEST.format(kind="character", name="lisi", owners="alice, bob"),
    )
    team.plain_commit()

    assert "was signed for character/zhangsan" in problem(team, AssetId("character", "lisi"))


def test_a_new_asset_is_added_by_those_whom_its_kind_names(team: Team) -> None:
    lisi = AssetId("character", "lisi")
    team.asset(lisi, owners="dora")
    team.forge(str(lisi), "dora", "dora", 1, None)
    team.plain_commit()
    refused = problem(team, lisi)
    team.signed_commit("bob", lisi)

    assert "those who may add it are alice, bob, carol" in refused
    assert problem(team, lisi) == ""


def test_removing_the_signature_removes_the_state(team: Team) -> None:
    (team.root / FOLDER / "signature.json").unlink()
    team.plain_commit()

    assert "signature.json is missing" in problem(team)


@pytest.mark.parametrize("place", ["manifests/character/zhangsan", "manifests/character"])
def test_a_link_in_the_place_of_a_signed_folder_is_nobodys(team: Team, place: str) -> None:
    take_over(team)
    team.git("mv", place, "elsewhere")
    (team.root / place).symlink_to(team.root / "elsewhere")
    team.plain_commit()

    assert "is a link: nobody signs what it leads to" in problem(team)
    for person in ("alice", "carol"):
        with pytest.raises(IntegrityError, match="nobody who may has signed"):
            signatures.commit(team.sit_down(person), [ZHANGSAN], "would cover it")


def test_an_asset_that_is_not_in_git_yet_is_ones_own_to_use(team: Team) -> None:
    team.asset(AssetId("character", "lisi"), owners="alice")

    authority.refuse_unsigned(team.workspace, AssetId("character", "lisi"))
    assert authority.unsigned(team.workspace, AssetId("character", "lisi")) == []


def test_files_that_git_no_longer_has_are_not_what_was_signed(team: Team) -> None:
    team.git("rm", "-r", "--quiet", "--cached", FOLDER)
    team.git("commit", "--quiet", "-m", "gone")

    assert "git has none of the files that alice signed" in problem(team)


def test_what_was_found_out_is_kept_where_no_commit_can_bring_it(team: Team) -> None:
    authority.check(team.workspace, ZHANGSAN)

    assert [path.parent.name for path in team.root.rglob("*authority*")] == [".git"]


def test_removing_an_asset_does_not_free_its_name(team: Team) -> None:
    team.git("rm", "-r", "--quiet", FOLDER)
    team.plain_commit()
    team.asset(ZHANGSAN, owners="dora")
    team.forge(str(ZHANGSAN), "dora", "dora", 1, None)
    team.plain_commit()

    assert "dora signed, but" in problem(team)


def test_removing_the_policy_turns_nothing_off(team: Team) -> None:
    team.git("rm", "--quiet", "-r", "manifests/policy.yaml", "manifests/policy.signature.json")
    team.plain_commit()
    take_over(team)
    team.plain_commit()

    assert "policy.signature.json is missing" in policy_problem(team)
    assert "manifest.yaml is not what alice signed" in problem(team)


def test_a_rewritten_history_with_another_policy_is_not_the_one_this_clone_trusts(
    team: Team, tmp_path: Path
) -> None:
    told = authority.pinned(team.workspace)
    other = build(tmp_path / "other")
    team.git("fetch", "--quiet", str(other.root), "main")
    team.git("reset", "--quiet", "--hard", "FETCH_HEAD")

    assert told
    assert "history was rewritten" in policy_problem(team)
    with pytest.raises(IntegrityError, match="nobody who may"):
        authority.require(team.workspace, ZHANGSAN)


def test_a_history_without_the_trusted_policy_is_refused(team: Team) -> None:
    team.git("checkout", "--quiet", "--orphan", "clean")
    team.git("rm", "-r", "--quiet", "--cached", ".")
    shutil.rmtree(team.root / "manifests")
    team.asset(ZHANGSAN, owners="mallory")
    team.plain_commit()

    assert "which this clone trusts, is not in this history" in policy_problem(team)
    assert problem(team) != ""


def test_a_new_clone_trusts_what_it_sees_first_and_says_so_once(team: Team, tmp_path: Path) -> None:
    team.git("clone", "--quiet", str(team.root), str(tmp_path / "clone"))
    workspace = Workspace(tmp_path / "clone")

    assert authority.pinned(workspace) is None
    assert "this clone trusts the policy" in (authority.pin(workspace) or "")
    assert authority.pin(workspace) is None
    assert authority.pinned(workspace) == authority.pinned(team.workspace)


def test_what_was_signed_before_a_key_was_taken_away_stays_valid(team: Team) -> None:
    signers = "manifests/allowed_signers"
    lines = (team.root / signers).read_text().splitlines(keepends=True)
    team.write(signers, "".join(line for line in lines if not line.startswith("alice ")))
    team.signed_policy("carol")
    kept = problem(team)
    team.replace(f"{FOLDER}/manifest.yaml", "zzhangsan", "zz")
    team.forge_next(str(ZHANGSAN), by="alice", key="alice")
    team.plain_commit()

    assert kept == ""
    assert "is not signed by a key of alice" in problem(team)


def test_a_branch_is_merged_with_its_signatures(team: Team) -> None:
    team.git("checkout", "--quiet", "-b", "work")
    for number in range(3):
        team.replace(f"{FOLDER}/manifest.yaml", "trigger: z", f"trigger: z{number}")
        team.signed_commit("alice")
    team.git("checkout", "--quiet", "main")
    team.replace("manifests/style/ink/manifest.yaml", "zink", "zzink")
    team.signed_commit("bob", INK)
    team.git("merge", "--quiet", "--no-edit", "work")

    assert problem(team) == problem(team, INK) == policy_problem(team) == ""


def test_an_owner_named_on_a_branch_signs_there(team: Team) -> None:
    team.git("checkout", "--quiet", "-b", "work")
    team.replace(f"{FOLDER}/manifest.yaml", "[alice, bob]", "[alice, dora]")
    team.signed_commit("alice")
    team.replace(f"{FOLDER}/manifest.yaml", "zzhangsan", "zz")
    team.signed_commit("dora")
    team.git("checkout", "--quiet", "main")
    team.git("merge", "--quiet", "--no-ff", "--no-edit", "work")

    assert problem(team) == ""


def test_squash_and_rebase_keep_the_signatures(team: Team) -> None:
    team.git("checkout", "--quiet", "-b", "work")
    for number in range(3):
        team.replace(f"{FOLDER}/manifest.yaml", "trigger: z", f"trigger: z{number}")
        team.signed_commit("alice")
    team.git("checkout", "--quiet", "main")
    team.replace("manifests/style/ink/manifest.yaml", "zink", "zzink")
    team.signed_commit("bob", INK)
    team.git("checkout", "--quiet", "-b", "rebased", "work")
    team.git("rebase", "--quiet", "main")
    rebased = problem(team)
    team.git("checkout", "--quiet", "main")
    team.git("merge", "--quiet", "--squash", "work")
    team.git("commit", "--quiet", "-m", "squashed by a forge")

    assert rebased == problem(team) == problem(team, INK) == ""


def test_who_was_removed_cannot_come_back_by_merging_his_own_branch_of_the_past(team: Team) -> None:
    team.git("branch", "past")
    team.replace("manifests/policy.yaml", "characters: [alice, bob]", "characters: [bob]")
    team.signed_policy("carol")
    team.replace(f"{FOLDER}/manifest.yaml", "owners: [alice, bob]", "owners: [bob]")
    team.signed_commit("bob")
    team.git("checkout", "--quiet", "past")
    team.replace(f"{FOLDER}/manifest.yaml", "zzhangsan", "hers")
    team.signed_commit("alice")
    team.replace(f"{FOLDER}/manifest.yaml", "hers", "hers-again")
    team.signed_commit("alice")
    team.git("merge", "--quiet", "--no-edit", "-s", "ours", "main")

    assert problem(team) != ""
    assert authority.owners_at(team.workspace, ZHANGSAN, "HEAD") == {"bob", "carol"}


def test_a_removed_maintainer_cannot_bring_back_his_policy_by_a_merge(team: Team) -> None:
    promise(team, "mallory")
    team.signed_policy("carol")
    team.git("branch", "past")
    team.replace("manifests/policy.yaml", "[carol, mallory]", "[carol]")
    team.signed_policy("carol")
    team.git("checkout", "--quiet", "past")
    for maintainers in ("[mallory, carol]", "[mallory]"):
        now = "[carol, mallory]" if "carol" in maintainers else "[mallory, carol]"
        team.replace("manifests/policy.yaml", f"maintainer: {now}", f"maintainer: {maintainers}")
        team.signed_policy("mallory")
    team.git("merge", "--quiet", "--no-edit", "-s", "ours", "main")
    take_over(team)
    team.forge_next(str(ZHANGSAN), by="mallory", key="mallory")
    team.plain_commit()

    assert policy_problem(team) != ""
    assert "mallory signed, but" in problem(team)


def test_after_an_attack_a_maintainer_signs_what_is_right(team: Team) -> None:
    from lorareg.registry.access import signatures

    take_over(team)
    team.plain_commit("attack")
    team.replace(f"{FOLDER}/manifest.yaml", "owners: [mallory]", "owners: [alice, bob]")
    workspace = team.sit_down("carol")
    written = signatures.sign(workspace, [ZHANGSAN], is_reviewed=True)
    workspace.history.commit([team.root / FOLDER, *written], "restored")

    assert problem(team) == ""


def test_a_second_look_reads_no_history(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    problem(team)

    def walked(self: Ledger) -> None:
        raise AssertionError("the history was read again")

    monkeypatch.setattr(Ledger, "_catch_up", walked)

    assert problem(team) == ""


def test_going_back_to_another_branch_shows_that_branch(team: Team) -> None:
    team.git("checkout", "--quiet", "-b", "other")
    lisi = AssetId("character", "lisi")
    team.asset(lisi)
    team.signed_commit("alice", lisi)
    take_over(team)
    team.plain_commit()
    spoiled = problem(team)
    team.git("checkout", "--quiet", "main")

    assert spoiled != ""
    assert problem(team) == ""
    assert "is missing" in problem(team, lisi)


def test_owners_are_known_as_of_any_commit(team: Team) -> None:
    before = team.git("rev-parse", "HEAD")
    team.replace(f"{FOLDER}/manifest.yaml", "owners: [alice, bob]", "owners: [dora]")
    team.signed_commit("bob")
    workspace = team.workspace

    assert authority.owners_at(workspace, ZHANGSAN, before) == {"alice", "bob", "carol"}
    assert authority.owners_at(workspace, ZHANGSAN, "HEAD") == {"dora", "carol"}
    assert authority.owners_at(workspace, AssetId("character", "new"), "HEAD") == {
        "alice",
        "bob",
        "carol",
    }


def test_a_shallow_clone_is_told_to_get_the_rest(team: Team, tmp_path: Path) -> None:
    clone = tmp_path / "shallow"
    command = ["git", "clone", "--quiet", "--depth=1", f"file://{team.root}", str(clone)]
    subprocess.run(command, check=True, capture_output=True)

    found = authority.check(Workspace(clone), ZHANGSAN)

    assert [finding.fix for finding in found] == ["git fetch --unshallow"] * len(found)
    assert found
