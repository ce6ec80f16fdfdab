"""Who may move a channel: the promoters of a protected one, the owners of any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lorareg.errors import LoraregError
from lorareg.registry.releases import promotion, rollback, rollout
from lorareg.registry.releases.channels import Channels, load
from lorareg.registry.releases.promotion import Wish
from lorareg.registry.releases.rollout import Evidence
from tests.registry.access.team import ZHANGSAN, Team, build, copy, isolated


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """carol maintains, alice and bob own, dora promotes stable; two releases, the first stable."""
    top = tmp_path_factory.mktemp("promoters")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in isolated(top).items():
            patch.setenv(name, value)
        team = build(top)
        for version in ("v1.0.0", "v1.1.0"):
            team.git("tag", "--annotate", "-m", version, f"{ZHANGSAN}@{version}")
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
