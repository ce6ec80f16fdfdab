"""``push`` and ``pull`` as people type them, between two clones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apart import dvc_apart, git_apart
from tests.flows.conftest import lorareg
from tests.registry import shared
from tests.registry.shared import Member, Team, git


@pytest.fixture(scope="module", autouse=True)
def _own_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        dvc_apart(patch, home)
        git_apart(patch, home)
        yield


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Team:
    return shared.found(tmp_path_factory.mktemp("team"))


@pytest.fixture(scope="module")
def alice(team: Team) -> Member:
    return team.member("alice")


def test_a_story_of_two_clones(team: Team, alice: Member) -> None:
    alice.adapter("style/ink", 1)

    plan = lorareg(alice.root, "push", "--dry-run")
    document = lorareg(alice.root, "push", "--dry-run", "--json").json
    pushed = lorareg(alice.root, "push", "--json")
    bob = team.member("bob")
    pulled = lorareg(bob.root, "pull")

    assert "commit 4 files" in plan.out
    assert "upload 2 objects" in plan.out
    assert document["uploads"][0]["remote"] == "storage"
    assert (pushed.code, pushed.json["objects"]) == (0, 2)
    assert "uploading:" in pushed.err, "bytes are talk, not the answer"
    assert (pulled.code, pulled.out) == (0, "style/ink: 1 files match the lock\n")
    assert "fetching:" in pulled.err


def test_what_is_refused_is_told_beside_what_came(team: Team, alice: Member) -> None:
    bad, good = alice.adapter("style/bad", 2), alice.adapter("style/good", 3)
    assert lorareg(alice.root, "push").code == 0
    place = alice.object_at(bad, "storage")
    place.chmod(0o644)
    place.write_bytes(place.read_bytes()[::-1])
    carol = team.member("carol")

    answer = lorareg(carol.root, "pull")
    document = lorareg(carol.root, "pull", "--json")

    assert answer.code == document.code == 2
    assert "style/good: 1 files match" in answer.out
    assert shared.FILE in answer.err
    assert set(document.json["refused"]) == {"style/bad"}
    assert carol.weights(good).exists()
    assert not carol.workspace.folder(bad).weights.exists()
    place.unlink()
    assert lorareg(alice.root, "push").code == 0
    assert lorareg(carol.root, "pull").code == 0, "the owner's push mended the remote"


def test_a_release_is_fetched_beside_what_is_checked_out(team: Team, alice: Member) -> None:
    old = alice.adapter("style/aged", 4)
    lorareg(alice.root, "push")
    first = alice.weights(old).read_bytes()
    git(alice.root, "tag", "-am", "release", "style/aged@v1.0.0")
    alice.adapter("style/aged", 5)
    lorareg(alice.root, "push")
    dora = team.member("dora")
    lorareg(dora.root, "pull", "style/aged")

    answer = lorareg(dora.root, "pull", "style/aged@v1.0.0")

    assert answer.code == 0, answer.err
    assert (Path(answer.out.strip()) / shared.FILE).read_bytes() == first
    assert dora.weights(old).read_bytes() != first


def test_a_moved_tag_is_told_with_status_2_and_stays(team: Team, alice: Member) -> None:
    erin = team.member("erin")
    alice.adapter("style/tagged", 6)
    git(alice.root, "tag", "-am", "one", "style/tagged@v9.0.0")
    lorareg(alice.root, "push")
    lorareg(erin.root, "pull", "style/tagged")
    git(alice.root, "tag", "-f", "-am", "two", "style/tagged@v9.0.0")
    git(alice.root, "push", "-q", "--force", "origin", "refs/tags/style/tagged@v9.0.0")

    answer = lorareg(erin.root, "pull", "style/tagged")

    assert answer.code == 2
    assert "style/tagged@v9.0.0" in answer.err
    assert git(erin.root, "tag", "-l", "style/tagged*", "--format=%(subject)") == "one"
    assert erin.weights(erin.workspace.find_asset("style/tagged")).exists()
