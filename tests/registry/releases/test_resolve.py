"""Which release a subject gets: the same for ever, and only more subjects as a share grows."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorareg.errors import LoraregError
from lorareg.registry.ids import AssetId
from lorareg.registry.releases.channels import WHOLE, Channel, Channels, parse
from lorareg.registry.releases.resolve import bucket, choose

ZHANGSAN = AssetId("character", "zhangsan")
SUBJECTS = 20_000
SIGMAS = 5  # a fair draw is further out than this once in 1.7 million
FROZEN = {
    # (asset, salt, subject) -> bucket; these may never change: players would change sides
    ("character/zhangsan", "s1", "player-123"): 7313,
    ("character/zhangsan", "s2", "player-123"): 8442,
    ("style/ink", "s1", "player-123"): 1751,
    ("character/zhangsan", "s1", "张三"): 5153,
    ("character/zhangsan", "s1", "a|b"): 2360,
    ("character/zhangsan", "s1", "alice@example.org"): 937,
}


def rolling(points: int, salt: str = "s1", allow: tuple[str, ...] = ()) -> Channels:
    """v1 is stable, v2 rolls out to a share in basis points."""
    canary = Channel(version="v2.0.0", salt=salt, allow=allow)
    share = canary.model_copy(update={"share": points})
    return Channels({"canary": share, "stable": Channel(version="v1.0.0")})


def version(channels: Channels, subject: str | None, *groups: str) -> str:
    return choose(ZHANGSAN, channels, "stable", subject, groups).version


def lucky(channels: Channels) -> set[int]:
    """Of 20,000 players, those who get the new release."""
    return {n for n in range(SUBJECTS) if version(channels, f"player-{n}") == "v2.0.0"}


subjects = st.text(min_size=1, max_size=40).filter(
    lambda text: not any("\ud800" <= letter <= "\udfff" for letter in text)
)
names = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40)
points = st.integers(min_value=0, max_value=WHOLE)


@pytest.mark.parametrize(("place", "expected"), FROZEN.items(), ids=lambda value: str(value))
def test_the_bucket_of_a_subject_is_what_it_always_was(
    place: tuple[str, str, str], expected: int
) -> None:
    asset, salt, subject = place

    assert bucket(AssetId.parse(asset), salt, subject) == expected


@given(subject=subjects, low=points, high=points)
def test_a_share_that_grows_only_adds_subjects(subject: str, low: int, high: int) -> None:
    low, high = sorted((low, high))

    before, after = version(rolling(low), subject), version(rolling(high), subject)

    assert (before, after) != ("v2.0.0", "v1.0.0")


@given(subject=names, share=points)
def test_the_allow_list_wins_whatever_the_share(subject: str, share: int) -> None:
    assert version(rolling(share, allow=(subject,)), subject) == "v2.0.0"
    assert version(rolling(share, allow=("qa",)), subject, "qa") == "v2.0.0"
    assert version(rolling(share, allow=("qa",)), None, "qa") == "v2.0.0"


@given(subject=subjects)
def test_nobody_is_in_a_share_of_nothing_and_everybody_in_a_whole_one(subject: str) -> None:
    assert version(rolling(0), subject) == "v1.0.0"
    assert version(rolling(WHOLE), subject) == "v2.0.0"


def test_the_edge_of_a_share_is_exact_to_a_hundredth_of_a_percent() -> None:
    place = bucket(ZHANGSAN, "s1", "player-123")

    assert version(rolling(place), "player-123") == "v1.0.0"
    assert version(rolling(place + 1), "player-123") == "v2.0.0"


@pytest.mark.parametrize("share", [500, 2500, WHOLE])
def test_a_share_is_met_as_closely_as_chance_allows(share: int) -> None:
    """The number of subjects within is binomial; its standard deviation is sqrt(n p (1 - p))."""
    chance = share / WHOLE
    deviation = math.sqrt(SUBJECTS * chance * (1 - chance))

    found = len(lucky(rolling(share)))

    assert abs(found - SUBJECTS * chance) <= SIGMAS * deviation


def test_a_rollout_only_adds_subjects_from_step_to_step() -> None:
    first, second, third = (lucky(rolling(share)) for share in (500, 2500, WHOLE))

    assert first < second < third


def test_a_new_salt_draws_anew() -> None:
    """Of two independent shares the overlap is binomial with the product of the chances."""
    chance = 0.25 * 0.25
    deviation = math.sqrt(SUBJECTS * chance * (1 - chance))

    both = lucky(rolling(2500, "s1")) & lucky(rolling(2500, "s2"))

    assert abs(len(both) - SUBJECTS * chance) <= SIGMAS * deviation


def test_another_process_gives_the_same_answers() -> None:
    code = (
        "from lorareg.registry.ids import AssetId\n"
        "from lorareg.registry.releases.resolve import bucket\n"
        "asset = AssetId('character', 'zhangsan')\n"
        "print([bucket(asset, 's1', f'player-{n}') for n in range(500)])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == str([bucket(ZHANGSAN, "s1", f"player-{n}") for n in range(500)])


def test_who_asks_for_another_channel_gets_what_it_points_to() -> None:
    found = choose(ZHANGSAN, rolling(0), "canary", "player-123")

    assert (found.version, found.channel, found.bucket) == ("v2.0.0", "canary", None)


def test_who_names_no_subject_gets_stable() -> None:
    found = choose(ZHANGSAN, rolling(WHOLE - 1), "stable")

    assert (found.version, found.why) == ("v1.0.0", "no subject was named")


def test_of_two_allow_lists_the_first_by_name_wins_in_whatever_order_the_file_has_them() -> None:
    text = "schema: lorareg/1\nstable: v1.0.0\n"
    beta, canary = (
        "beta: {version: v3.0.0, allow: [qa]}\n",
        "canary: {version: v2.0.0, allow: [qa]}\n",
    )
    file = Path("zhangsan/channels.yaml")

    found = [
        choose(ZHANGSAN, parse(text + order, file, ZHANGSAN), "stable", None, ["qa"]).channel
        for order in (beta + canary, canary + beta)
    ]

    assert found == ["beta", "beta"]


@pytest.mark.parametrize("subject", ["", "x" * 1001, "\ud800"])
def test_what_names_nobody_is_refused(subject: str) -> None:
    with pytest.raises(LoraregError, match="no subject"):
        version(rolling(500), subject)


def test_a_channel_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(LoraregError) as caught:
        choose(ZHANGSAN, rolling(500), "beta")

    assert "canary v2.0.0, stable v1.0.0" in caught.value.why
