"""Who may move a channel: the promoters of a protected one, the owners of any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lorareg.errors import IntegrityError, LoraregError
from lorareg.registry import versions
from lorareg.registry.ids import Ref
from lorareg.registry.releases import ledger, promotion, rollback, rollout, served, tagtext
from lorareg.registry.releases.channels import Channels, load
from lorareg.registry.releases.levels import Reason
from lorareg.registry.releases.promotion import Wish
from lorareg.registry.releases.rollout import Evidence
from tests.registry.access.team import ZHANGSAN, Team, build, copy, isolated

FIRST = Reason("major", "the first release")


def release(team: Team, version: str) -> None:
    """A tag on HEAD and its line of the ledger; whose signature the tag has is asked elsewhere."""
    name, head = f"{ZHANGSAN}@{version}", team.git("rev-parse", "HEAD")
    team.git("tag", "--annotate", "-m", version, name, head)
    claims = tagtext.claims_at(team.workspace, ZHANGSAN, version, head, (FIRST,))
    entry = tagtext.entry(claims, team.workspace.history.tag_object(name), "alice")
    ledger.add(team.workspace, ZHANGSAN, entry)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """carol maintains, alice and bob own, dora promotes stable; two releases, the first stable."""
    top = tmp_path_factory.mktemp("promoters")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in isolated(top).items():
            patch.setenv(name, value)
        team = build(top)
        for version in ("v1.0.0", "v1.1.0"):
            release(team, version)
        team.signed_commit("alice")
        promotion.promote(team.sit_down("dora"), (ZHANGSAN, "v1.0.0"), "stable")
        yield team


@pytest.fixture
def team(released: Team, tmp_path: Path) -> Team:
    return copy(released, tmp_path / "copy")


def promote(team: Team, person: str, channel: str, share: int | None = None) -> str | None:
    wish = Wish(share=share)
    return promotion.promote(team.sit_down(person), (ZHANGSAN, "v1.1.0"), channel, wish).commit


def table(team: Team) -> Channels:
    return load(team.workspace.folder(ZHANGSAN).channels, ZHANGSAN)


def unchanged(team: Team, act: Callable[[], object], reason: str) -> None:
    """What is refused leaves file and history as they were."""
    before = team.git("rev-parse", "HEAD"), table(team)

    with pytest.raises(LoraregError) as caught:
        act()

    assert reason in caught.value.why
    assert (team.git("rev-parse", "HEAD"), table(team)) == before
    assert team.git("status", "--short") == ""


def test_only_a_promoter_moves_a_protected_channel(team: Team) -> None:
    unchanged(
        team, lambda: promote(team, "alice", "stable"), "channel stable is protected: only dora"
    )
    unchanged(
        team, lambda: promote(team, "carol", "stable"), "channel stable is protected: only dora"
    )

    assert promote(team, "dora", "stable")


def test_only_owners_move_another_channel(team: Team) -> None:
    unchanged(team, lambda: promote(team, "dora", "canary", 500), "alice, bob")

    assert promote(team, "alice", "canary", 500)


def test_a_stranger_moves_nothing(team: Team) -> None:
    with pytest.raises(LoraregError, match="the policy does not know you"):
        promote(team, "mallory", "canary", 500)

    assert "canary" not in table(team).table


def test_an_owner_rolls_out_but_everybody_is_for_the_promoter(team: Team) -> None:
    """100 % is what everybody gets who asks for stable, so it is a move of stable."""
    promote(team, "alice", "canary", 500)
    rollout.step(team.sit_down("alice"), ZHANGSAN, "canary", Evidence())

    unchanged(
        team,
        lambda: rollout.step(team.sit_down("alice"), ZHANGSAN, "canary", Evidence()),
        "channel stable is protected",
    )
    promotion.promote(team.sit_down("dora"), (ZHANGSAN, "v1.1.0"), "stable")

    assert list(table(team).table) == ["stable"]


def test_an_owner_ends_a_gray_release_at_any_share(team: Team) -> None:
    promote(team, "alice", "canary", 2500)

    done = rollout.step(
        team.sit_down("bob"), ZHANGSAN, "canary", Evidence(command="sh -c 'exit 1'")
    )

    assert (done.holds, done.move.after) == (False, None)


def test_a_rollback_of_a_protected_channel_is_the_promoters(team: Team) -> None:
    promote(team, "dora", "stable")

    unchanged(
        team,
        lambda: rollback.rollback(team.sit_down("alice"), ZHANGSAN, "stable"),
        "channel stable is protected",
    )

    after = rollback.rollback(team.sit_down("dora"), ZHANGSAN, "stable").after
    assert after is not None
    assert after.version == "v1.0.0"


def test_who_signs_a_move_does_not_sign_what_lies_about_beside_it(team: Team) -> None:
    manifest = f"manifests/{ZHANGSAN}/manifest.yaml"
    team.replace(manifest, "trigger: zzhangsan", "trigger: other")

    with pytest.raises(LoraregError) as caught:
        promote(team, "alice", "canary", 500)

    assert manifest in caught.value.why
    assert "canary" not in table(team).table


def test_a_tag_that_is_in_no_signed_ledger_is_no_release_to_promote(team: Team) -> None:
    team.git("tag", "--annotate", "-m", "v9.0.0", f"{ZHANGSAN}@v9.0.0")

    with pytest.raises(LoraregError, match="is no release: the ledger"):
        promotion.promote(team.sit_down("alice"), (ZHANGSAN, "v9.0.0"), "beta")


def test_such_a_tag_is_no_newest_release_either(team: Team) -> None:
    team.git("tag", "--annotate", "-m", "v1.9.0", f"{ZHANGSAN}@v1.9.0")

    assert versions.version_of(team.workspace, ZHANGSAN, Ref.parse(f"{ZHANGSAN}@^1.0")) == "v1.1.0"
    assert versions.recorded(team.workspace, ZHANGSAN) == ["v1.0.0", "v1.1.0"]


def test_what_nobody_entitled_moved_is_resolved_by_nobody(team: Team) -> None:
    resolver = served.Resolver(team.workspace)
    resolver.resolve(f"{ZHANGSAN}@stable")
    team.write(f"manifests/{ZHANGSAN}/channels.yaml", "schema: lorareg/1\nstable: v1.1.0\n")
    team.plain_commit()

    for resolve in (resolver.resolve, served.Resolver(team.workspace).resolve):
        with pytest.raises(IntegrityError, match="nobody who may has signed"):
            resolve(f"{ZHANGSAN}@stable")
    with pytest.raises(IntegrityError, match="nobody who may has signed"):
        served.choose(team.workspace, ZHANGSAN, "stable")


def test_a_release_of_a_ledger_that_nobody_entitled_signed_is_none(team: Team) -> None:
    team.git("tag", "--annotate", "-m", "v9.0.0", f"{ZHANGSAN}@v9.0.0")
    release(team, "v9.1.0")
    team.plain_commit()

    with pytest.raises(IntegrityError, match="nobody who may has signed"):
        ledger.commit_of(team.workspace, ZHANGSAN, "v9.1.0")
