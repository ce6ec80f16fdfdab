"""Whether a tag is still the release that was made: what verify finds, what find refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lorareg.errors import IntegrityError, LoraregError, NotFoundError
from lorareg.registry import lock, versions
from lorareg.registry.access import signatures
from lorareg.registry.ids import Ref
from lorareg.registry.releases import ledger, release, tags, tagtext
from lorareg.registry.verify import verify
from tests.registry.releases.team import OTHER, STYLE, THIRD, Person, git, introduce, join

NAME = "style/ink@v1.0.0"


def make(person: Person) -> release.Released:
    return release.make(person.workspace, STYLE, None, lambda _: None)


def failures(person: Person) -> list[str]:
    return [each.detail for each in tags.check(person.workspace, STYLE) if not each.ok]


def test_gto_lists_releases_as_versions(alice: Person) -> None:
    make(alice)
    alice.train(STYLE, OTHER)
    make(alice)

    gto = Path(sys.executable).with_name("gto")
    shown = subprocess.run(
        [str(gto), "show", "-r", str(alice.root), "style/ink", "--json"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip

    assert '"style/ink@v1.0.0"' in shown
    assert '"style/ink@v1.1.0"' in shown


def test_a_tag_that_was_moved_to_other_weights_is_found_and_refused(team: Person) -> None:
    make(team)
    team.train(STYLE, OTHER)
    second = make(team)
    key = team.git("config", "user.signingKey")
    message = team.git("tag", "--list", "--format=%(contents:subject)", NAME)
    team.git("tag", "-d", NAME)
    team.git("-c", f"user.signingKey={key}", "tag", "-s", "-m", message, NAME, second.commit)

    with pytest.raises(IntegrityError, match="the tag style/ink@v1.0.0 was moved") as refused:
        versions.find(team.workspace, Ref.parse(NAME))

    assert "git fetch origin tag style/ink@v1.0.0" in refused.value.fix
    assert failures(team) == ["the message of the tag is not that of a release"]
    found = [each for each in verify(team.workspace, STYLE) if each.what == "release v1.0.0"]
    assert [each.ok for each in found] == [False]


def test_the_very_message_on_another_commit_is_found_too(team: Person) -> None:
    make(team)
    message = team.workspace.history.tag_object(NAME).message
    team.git("tag", "-d", NAME)
    team.git("tag", "-s", "-m", message, NAME, "HEAD")

    (detail,) = failures(team)

    assert detail.startswith("it was moved: the ledger names tag")
    assert versions.find(team.workspace, Ref.parse(NAME)).version == "v1.0.0", "the same bytes"


def test_unsigned_and_deleted_tags_are_found(team: Person) -> None:
    done = make(team)
    team.git("tag", "-d", NAME)
    gone = failures(team)
    team.git("tag", NAME, done.commit)
    light = failures(team)
    fixes = [each.fix for each in tags.check(team.workspace, STYLE)]
    team.git("tag", "-d", NAME)
    team.git("tag", "-a", "-m", "style/ink v1.0.0", NAME, done.commit)

    assert gone == ["the ledger knows it, but there is no tag of that name here"]
    assert light == [f"unsigned: the tag {NAME} is not annotated"]
    assert failures(team) == ["the tag is not signed"]
    assert fixes == [f"git tag -d {NAME} && git fetch origin tag {NAME}"]


def test_a_signature_of_somebody_who_is_no_owner_is_found(team: Person, keys: Path) -> None:
    done = make(team)
    introduce(team.root, keys, "bob")
    message = team.workspace.history.tag_object(NAME).message.replace("v1.0.0", "v1.1.0")
    team.git("tag", "-s", "-m", message, "style/ink@v1.1.0", done.commit)
    introduce(team.root, keys, "mallory")
    team.git("tag", "-s", "-m", message.replace("v1.1", "v1.2"), "style/ink@v1.2.0", done.commit)

    found = failures(team)

    assert "signed by bob, who was no owner: alice, carol" in found
    assert any("was nobody's key in manifests/allowed_signers" in each for each in found)


def test_who_makes_himself_owner_cannot_release_by_that(team: Person, keys: Path) -> None:
    bob = introduce(team.root, keys, "bob")
    bob.workspace.edit_manifest(STYLE, {"owners": ["bob"]})
    bob.git("commit", "--quiet", "--all", "-m", "Mine now")
    commit = bob.git("rev-parse", "HEAD")
    first = release.Reason("major", "the first release")
    claims = tagtext.claims_at(bob.workspace, STYLE, "v1.0.0", commit, [first])

    bob.git("tag", "-s", "-m", tagtext.message(claims), NAME, commit)

    assert "signed by bob, who was no owner: alice, carol" in failures(bob)


def test_a_tag_under_another_name_says_what_it_really_is(team: Person) -> None:
    make(team)
    team.git("update-ref", "refs/tags/style/ink@v9.0.0", f"refs/tags/{NAME}")

    assert "it says that it is style/ink v1.0.0" in failures(team)


def test_in_a_team_a_tag_that_no_ledger_knows_is_no_release(team: Person) -> None:
    team.git("tag", "style/ink@v3.0.0")

    with pytest.raises(IntegrityError, match="is no release"):
        versions.find(team.workspace, Ref.parse("style/ink@v3.0.0"))
    with pytest.raises(NotFoundError, match=r"there is no release style/ink@v4\.0\.0"):
        versions.find(team.workspace, Ref.parse("style/ink@v4.0.0"))


def test_in_a_registry_of_one_a_tag_made_by_hand_is_a_remark(alice: Person) -> None:
    alice.git("tag", NAME)

    (remark,) = tags.check(alice.workspace, STYLE)

    assert (remark.ok, remark.is_hard) == (False, False)
    assert versions.find(alice.workspace, Ref.parse(NAME)).version == "v1.0.0"


def test_a_ledger_that_was_rewritten_is_found(alice: Person) -> None:
    make(alice)
    alice.train(STYLE, OTHER)
    make(alice)
    known = ledger.load(alice.workspace, STYLE)
    shortened = known.model_copy(update={"releases": known.releases[1:]})
    lock.save(alice.workspace.folder(STYLE).releases, shortened)
    alice.git("commit", "--quiet", "--all", "-m", "Forget v1.0.0")

    found = failures(alice)

    assert any(each.startswith("it is no longer in the ledger: at ") for each in found)


def test_two_people_who_release_the_same_version_are_told_the_way_out(
    team: Person, keys: Path, tmp_path: Path
) -> None:
    origin = tmp_path / "origin.git"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(origin))
    team.git("remote", "add", "origin", str(origin))
    signatures.commit(team.workspace, [STYLE], "Signed")
    team.workspace.history.push()
    carol = join(origin, keys, "carol")
    shared = team.workspace.folder(STYLE).weights
    carol.workspace.folder(STYLE).weights.mkdir()
    for file in shared.iterdir():
        (carol.workspace.folder(STYLE).weights / file.name).write_bytes(file.read_bytes())
    carol.workspace.store.borrow(team.workspace.store)
    make(team)
    team.workspace.history.push()
    make(carol)

    with pytest.raises(LoraregError):
        carol.workspace.history.push()
    carol.git("fetch", "--quiet", "--no-tags", "origin")

    found = [each for each in tags.check(carol.workspace, STYLE) if not each.ok]
    assert [each.detail for each in found] == [
        f"alice released v1.0.0, too: tag {team.git('rev-parse', NAME)[:10]}"
    ]
    for command in found[0].fix.partition(": ")[2].split(" && ")[:2]:
        carol.git(*command.split()[1:])
    carol.workspace.history.pull()
    assert failures(carol) == []
    assert carol.git("rev-parse", NAME) == team.git("rev-parse", NAME)
    with pytest.raises(LoraregError, match=r"nothing changed in style/ink since v1\.0\.0"):
        make(carol)
    carol.train(STYLE, THIRD)
    assert make(carol).version == "v1.1.0"
