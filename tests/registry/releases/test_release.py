"""Making releases: what is refused, what is written, and that a kill leaves nothing half."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorareg.errors import LoraregError
from lorareg.registry import digest, versions
from lorareg.registry.access import policy, signatures
from lorareg.registry.ids import Ref
from lorareg.registry.releases import ledger, release, tags
from lorareg.registry.releases.release import Released
from tests.registry.releases.team import OTHER, STYLE, Person, introduce


def make(person: Person, level: str | None = None) -> Released:
    return release.make(person.workspace, STYLE, level, lambda _: None)  # type: ignore[arg-type]


def failures(person: Person) -> list[str]:
    found = tags.check(person.workspace, STYLE)
    return [f"{each.what}: {each.detail}" for each in found if not each.ok]


def test_the_first_release_is_v1_and_its_signed_tag_holds_the_digest_of_the_lock(
    team: Person,
) -> None:
    done = make(team)

    workspace = team.workspace
    assert (done.version, done.level) == ("v1.0.0", "major")
    tag = tags.read(workspace, STYLE, "v1.0.0")
    assert tag.claims
    assert tag.claims.lock == digest.of_file(workspace.folder(STYLE).lock)
    assert tag.claims.manifest == digest.of_file(workspace.folder(STYLE).manifest)
    assert tag.object.message.splitlines()[0] == "style/ink v1.0.0"
    assert tags.signer(workspace, tag) == "alice"
    assert tag.object.commit == done.commit
    assert [str(each) for each in failures(team)] == []
    (entry,) = ledger.at(workspace, STYLE, "HEAD").releases
    assert (entry.tag, entry.commit, entry.by) == (tag.object.id, done.commit, "alice")
    assert not workspace.history.changed([workspace.folder(STYLE).path])
    assert versions.find(workspace, Ref.parse("style/ink@v1.0.0")).commit == done.commit


def test_other_weights_and_a_new_trigger_step_up_by_the_rule(alice: Person) -> None:
    make(alice)
    alice.train(STYLE, OTHER)
    second = make(alice)
    alice.set_keys(STYLE, trigger="zzother")

    third = make(alice)

    assert (second.version, third.version) == ("v1.1.0", "v2.0.0")
    assert second.reasons == ("minor: weights/pytorch_lora_weights.safetensors: other tensors",)
    assert third.reasons[0] == "major: trigger: zzink -> zzother"
    assert failures(alice) == []


def test_nothing_new_is_refused_and_the_release_that_it_equals_is_named(alice: Person) -> None:
    make(alice)
    file = alice.workspace.folder(STYLE).manifest
    file.write_text(f"# only a remark\n{file.read_text('utf-8')}", "utf-8")

    with pytest.raises(LoraregError, match=r"nothing changed in style/ink since v1\.0\.0"):
        make(alice)


def test_a_number_is_not_given_again_when_its_tag_is_not_here(alice: Person) -> None:
    make(alice)
    alice.git("tag", "-d", "style/ink@v1.0.0")
    alice.train(STYLE, OTHER)

    with pytest.raises(LoraregError, match="its tag is not here") as refused:
        make(alice)

    assert alice.git("tag") == ""
    assert refused.value.fix == "git fetch origin tag style/ink@v1.0.0"


def test_an_option_raises_the_step_and_never_lowers_it(alice: Person) -> None:
    make(alice)
    alice.set_keys(STYLE, description="Ink on paper")

    raised = make(alice, "minor")

    assert (raised.version, raised.reasons[0]) == ("v1.1.0", "minor: asked for: --minor")
    alice.set_keys(STYLE, trigger="zzother")
    with pytest.raises(LoraregError, match="is major, not patch") as refused:
        make(alice, "patch")
    assert "trigger: zzink -> zzother" in refused.value.why


def test_every_problem_is_named_at_once(team: Person, keys: Path) -> None:
    workspace = team.workspace
    workspace.edit_manifest(
        STYLE, {"lora.rank": 8, "scope": {"expires": "2020-01-01"}, "license.id": "CC-BY-NC-4.0"}
    )
    weights = workspace.folder(STYLE).weights / "pytorch_lora_weights.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes() + b" ")
    introduce(team.root, keys, "carol")
    rules = (team.root / policy.FILE).read_text() + "licenses: [MIT]\n"
    (team.root / policy.FILE).write_text(rules)
    signatures.commit_policy(workspace, "Licences")
    introduce(team.root, keys, "bob")
    team.git("config", "user.signingKey", str(keys / "nobody.pub"))

    with pytest.raises(LoraregError, match="style/ink cannot be released") as refused:
        make(team)

    told = refused.value.why
    for problem in (
        "signature: ",
        "stale: lora.rank: 16 -> 8",
        "weights: they are not the ones of the lock",
        "scope of style/ink: it expired on 2020-01-01",
        "licence: style/ink is under CC-BY-NC-4.0, the policy accepts MIT",
    ):
        assert problem in told
    assert "git config gpg.format ssh" in refused.value.fix
    assert team.git("tag", "--list") == ""


def test_who_is_no_owner_may_not_release_and_is_told_who_may(team: Person, keys: Path) -> None:
    bob = introduce(team.root, keys, "bob")

    with pytest.raises(LoraregError) as refused:
        make(bob)

    assert "bob is no owner of style/ink: alice, carol" in refused.value.why


def test_a_maintainer_may_release_what_others_own(team: Person, keys: Path) -> None:
    assert make(introduce(team.root, keys, "carol")).version == "v1.0.0"
    assert failures(team) == []


def test_without_a_key_it_is_refused_with_the_fix(alice: Person) -> None:
    alice.git("config", "--unset", "user.signingKey")

    with pytest.raises(LoraregError, match="cannot be released: signature") as refused:
        make(alice)

    assert "git config user.signingKey" in refused.value.fix


def killed_after_the_tag(person: Person) -> None:
    make(person)
    person.git("reset", "--quiet", "--hard", "HEAD~1")


def test_a_release_without_its_line_in_the_ledger_is_finished_by_the_next_run(
    team: Person,
) -> None:
    killed_after_the_tag(team)
    assert failures(team) == [
        "release v1.0.0: the ledger does not know it: lorareg release style/ink finishes a release"
    ]

    done = make(team)

    assert (done.finished, done.version) == (True, "v1.0.0")
    assert failures(team) == []
    with pytest.raises(LoraregError, match="nothing changed"):
        make(team)


def test_a_ledger_that_was_written_and_not_committed_is_finished_too(team: Person) -> None:
    make(team)
    team.git("reset", "--quiet", "--soft", "HEAD~1")
    folder = team.workspace.folder(STYLE).path
    (folder / f".signature.json.{'0' * 16}.tmp").write_text("half a sig", "utf-8")

    assert make(team).finished
    assert failures(team) == []
    assert team.git("status", "--porcelain", "--", "manifests") == ""
    assert not list(folder.glob(".*.tmp"))


def test_changes_since_an_interrupted_release_are_not_mixed_into_it(team: Person) -> None:
    killed_after_the_tag(team)
    team.set_keys(STYLE, description="Ink on paper")

    with pytest.raises(LoraregError, match="was begun and is not in the ledger yet") as refused:
        make(team)

    assert "manifests/style/ink/manifest.yaml" in refused.value.why


def test_a_clock_that_is_an_hour_behind_changes_no_number_and_no_order(
    alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(alice)
    for date in ("GIT_COMMITTER_DATE", "GIT_AUTHOR_DATE"):
        monkeypatch.setenv(date, "2001-01-01T00:00:00Z")
    alice.train(STYLE, OTHER)

    assert make(alice).version == "v1.1.0"
    alice.set_keys(STYLE, description="Ink on paper")
    assert make(alice).version == "v1.1.1"
    assert failures(alice) == []
    noted = json.loads((alice.workspace.folder(STYLE).releases).read_text())["releases"]
    assert [each["version"] for each in noted] == ["v1.0.0", "v1.1.0", "v1.1.1"]


def test_a_right_that_the_tagged_commit_itself_brings_does_not_count_yet(
    team: Person, keys: Path
) -> None:
    signatures.commit(team.workspace, [STYLE], "Signed")
    carol = introduce(team.root, keys, "carol")
    rules = (team.root / policy.FILE).read_text().replace("[carol]}", "[carol, bob]}")
    (team.root / policy.FILE).write_text(rules)
    signatures.commit_policy(carol.workspace, "Bob maintains, too")
    bob = introduce(team.root, keys, "bob")

    with pytest.raises(LoraregError, match="would not be recognised") as refused:
        make(bob)
    assert team.git("tag", "--list") == ""
    assert "git commit --allow-empty" in refused.value.fix

    team.git("commit", "--quiet", "--allow-empty", "-m", "Policy is in force")
    assert make(bob).version == "v1.0.0"
    assert failures(bob) == []
