from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorareg.errors import InvalidFileError, LoraregError, NotFoundError
from lorareg.registry.access import grants
from lorareg.registry.access.grants import UNSAID, USES, Grant
from lorareg.registry.ids import AssetId
from lorareg.registry.workspace import Workspace

ZHANGSAN = AssetId("character", "zhangsan")
TODAY = datetime.date(2026, 11, 22)
TRAILER = Grant(who="mia", purpose="game trailer", by="alice", on=TODAY)
COMMENTED = """\
# licensed to the agency, see contracts/2026-014
schema: lorareg/1
grants:
  # renewed twice
  - who: mia
    hub: mia-hub
    purpose: game trailer
    until: 2027-06-30   # end of the campaign
    by: alice
    on: 2026-01-05
  # the studio's own tests
  - {who: li, purpose: tests, scope: [generate], by: alice, on: 2026-02-01}
"""


@pytest.fixture
def workspace(registry: Path) -> Workspace:
    return Workspace(registry)


def write(workspace: Workspace, text: str) -> None:
    path = workspace.folder(ZHANGSAN).grants
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_an_asset_without_the_file_is_granted_to_nobody(workspace: Workspace) -> None:
    assert grants.load(workspace, ZHANGSAN) == ()


def test_a_grant_says_who_what_for_until_when_and_by_whom(workspace: Workspace) -> None:
    write(workspace, COMMENTED)

    mia, li = grants.load(workspace, ZHANGSAN)

    assert (mia.who, mia.hub, mia.purpose) == ("mia", "mia-hub", "game trailer")
    assert (mia.until, mia.by) == (datetime.date(2027, 6, 30), "alice")
    assert li.scope == ("generate",)


def test_one_more_grant_leaves_every_comment_where_it_is(workspace: Workspace) -> None:
    write(workspace, COMMENTED)

    changed = grants.given(workspace, ZHANGSAN, TRAILER.model_copy(update={"who": "tom"}))

    assert [grant.who for grant in changed.grants] == ["mia", "li", "tom"]
    for line in COMMENTED.splitlines():
        assert line in changed.text


def test_the_first_grant_makes_a_file_that_reads_back(workspace: Workspace) -> None:
    changed = grants.given(workspace, ZHANGSAN, TRAILER)

    grants.write(workspace, ZHANGSAN, changed)

    assert grants.load(workspace, ZHANGSAN) == (TRAILER,)
    assert "\n  on: 2026-11-22\n" in changed.text


def test_a_grant_for_the_same_purpose_takes_the_place_of_the_one_before(
    workspace: Workspace,
) -> None:
    write(workspace, COMMENTED)
    longer = TRAILER.model_copy(update={"purpose": "Game  Trailer", "until": TODAY})

    changed = grants.given(workspace, ZHANGSAN, longer)

    assert [(grant.who, grant.until) for grant in changed.grants] == [("li", None), ("mia", TODAY)]
    assert [grant.until for grant in changed.gone] == [datetime.date(2027, 6, 30)]


@pytest.mark.parametrize("name", ["mia", "mia-hub"])
def test_a_grant_is_taken_back_by_name_or_by_hub_name(workspace: Workspace, name: str) -> None:
    write(workspace, COMMENTED)

    changed = grants.withdrawn(workspace, ZHANGSAN, name)

    assert [grant.who for grant in changed.grants] == ["li"]
    assert "# licensed to the agency" in changed.text


def test_only_the_grant_for_a_purpose_is_taken_back(workspace: Workspace) -> None:
    write(workspace, COMMENTED)
    grants.write(
        workspace,
        ZHANGSAN,
        grants.given(workspace, ZHANGSAN, TRAILER.model_copy(update={"purpose": "poster"})),
    )

    changed = grants.withdrawn(workspace, ZHANGSAN, "mia", "Poster")

    assert [grant.purpose for grant in changed.grants] == ["game trailer", "tests"]


def test_a_grant_that_nobody_gave_cannot_be_taken_back(workspace: Workspace) -> None:
    write(workspace, COMMENTED)

    with pytest.raises(NotFoundError) as refused:
        grants.withdrawn(workspace, ZHANGSAN, "tom")

    assert refused.value.why == "grants there are for mia, li"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{who: mia, by: alice, on: 2026-01-05}", "purpose: missing"),
        ("{who: mia, purpose: x, untill: 2027-01-01, by: a, on: 2026-01-05}", "until"),
        ("{who: mia, purpose: x, until: 2027-02-30, by: alice, on: 2026-01-05}", "until"),
        ("{who: mia, purpose: x, scope: [sell], by: alice, on: 2026-01-05}", "scope"),
        ("{who: ../mia, purpose: x, by: alice, on: 2026-01-05}", "who"),
        ("{who: mia, hub: a/b, purpose: x, by: alice, on: 2026-01-05}", "hub"),
        ('{who: mia, purpose: "a\\nb", by: alice, on: 2026-01-05}', "purpose"),
        ('{who: mia, purpose: "", by: alice, on: 2026-01-05}', "purpose"),
    ],
)
def test_a_file_that_says_something_else_is_refused(
    workspace: Workspace, line: str, complaint: str
) -> None:
    write(workspace, f"schema: lorareg/1\ngrants:\n  - {line}\n")

    with pytest.raises(InvalidFileError) as refused:
        grants.load(workspace, ZHANGSAN)

    assert complaint in str(refused.value)


def test_it_holds_on_its_last_day_and_not_on_the_day_after() -> None:
    grant = TRAILER.model_copy(update={"until": TODAY})

    assert grant.holds(TODAY)
    assert not grant.holds(TODAY + datetime.timedelta(days=1))
    assert TRAILER.holds(datetime.date.max)


def test_what_names_no_uses_allows_all_but_publishing() -> None:
    assert [use for use in USES if TRAILER.covers(use)] == list(UNSAID)
    assert "publish" not in UNSAID


@given(scope=st.sets(st.sampled_from(USES), min_size=1), use=st.sampled_from(USES))
def test_what_names_uses_allows_these_alone(scope: set[grants.Use], use: grants.Use) -> None:
    grant = TRAILER.model_copy(update={"scope": tuple(sorted(scope))})

    assert grant.covers(use) == (use in scope)


@pytest.mark.parametrize("said", ["game trailer", "Game Trailer", " game   trailer "])
def test_a_purpose_is_the_same_in_other_letters_and_spacing(said: str) -> None:
    assert TRAILER.is_for(said)


@pytest.mark.parametrize("said", ["", "game", "game trailer 2", "gametrailer"])
def test_another_purpose_is_another_one(said: str) -> None:
    assert not TRAILER.is_for(said)


def test_a_day_is_written_in_one_way() -> None:
    with pytest.raises(LoraregError, match="'tomorrow' is no date"):
        grants.day("tomorrow")
