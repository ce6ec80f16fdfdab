"""Moving channels in a real history: promote, roll out step by step, and back."""

from __future__ import annotations

import datetime
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lorareg.errors import ExternalToolError, LoraregError, NotFoundError
from lorareg.registry.access import revocation
from lorareg.registry.access.revocation import Tombstone, Tombstones
from lorareg.registry.releases import channels, guards, promotion, rollback, rollout
from lorareg.registry.releases.channels import Channel, Channels
from lorareg.registry.releases.moving import Move
from lorareg.registry.releases.promotion import Wish
from lorareg.registry.releases.rollout import Evidence, Step
from tests.registry.releases.released import INK, ZHANGSAN, Released, build, copy

GOOD = Evidence({"face_sim": 0.9})
GUARD = guards.parse("face_sim>=0.82")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Released]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_CONFIG_GLOBAL", str(home / "gitconfig"))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        yield build(home / "registry")


@pytest.fixture
def here(made: Released, tmp_path: Path) -> Released:
    """Two adapters, each with the releases v1.0.0 to v1.3.0, and no channel."""
    return copy(made, tmp_path / "registry")


def promote(here: Released, version: str, channel: str = "stable", **wish: Any) -> Move:
    return promotion.promote(here.workspace, (ZHANGSAN, version), channel, Wish(**wish))


def step(here: Released, evidence: Evidence = GOOD) -> Step:
    return rollout.step(here.workspace, ZHANGSAN, "canary", evidence)


def back(here: Released, channel: str = "stable") -> Move:
    return rollback.rollback(here.workspace, ZHANGSAN, channel)


def table(here: Released) -> Channels:
    return channels.load(here.workspace.folder(ZHANGSAN).channels, ZHANGSAN)


def pointers(here: Released) -> dict[str, str]:
    return {name: channel.version for name, channel in table(here).table.items()}


def revoke(here: Released, version: str) -> None:
    stone = Tombstone(
        versions=(version,), reason="consent", by="alice", on=datetime.date(2026, 11, 22)
    )
    revocation.save(here.workspace, Tombstones(asset=str(ZHANGSAN), revocations=(stone,)))


def test_a_promotion_is_one_commit_of_one_file_that_says_what_moved(here: Released) -> None:
    promote(here, "v1.0.0")
    (here.root / "manifests" / str(ZHANGSAN) / "notes.txt").write_text("unfinished")

    move = promote(here, "v1.1.0")

    assert move.commit == here.git("rev-parse", "HEAD")
    assert here.git("log", "-1", "--format=%s") == (
        "Promote character/zhangsan: stable v1.0.0 -> v1.1.0"
    )
    assert (
        here.git("show", "--name-only", "--format=") == "manifests/character/zhangsan/channels.yaml"
    )
    assert here.read() == "stable: v1.1.0\n"


def test_promoting_what_is_promoted_changes_nothing(here: Released) -> None:
    promote(here, "v1.0.0")

    assert promote(here, "v1.0.0").commit is None


def test_a_promotion_that_was_interrupted_before_its_commit_is_finished_by_the_next(
    here: Released,
) -> None:
    here.write("stable: v1.0.0\n")

    assert promote(here, "v1.0.0").commit
    assert here.git("status", "--short") == ""


def test_only_releases_can_be_promoted(here: Released) -> None:
    with pytest.raises(NotFoundError, match=r"no release v9.0.0"):
        promote(here, "v9.0.0")

    assert not here.workspace.folder(ZHANGSAN).channels.exists()


def test_a_revoked_release_can_not_be_promoted(here: Released) -> None:
    revoke(here, "v1.1.0")

    with pytest.raises(LoraregError, match="is revoked"):
        promote(here, "v1.1.0")


def test_a_gray_release_needs_a_stable_one_and_stands_alone(here: Released) -> None:
    with pytest.raises(LoraregError, match="no stable release"):
        promote(here, "v1.1.0", "canary", share=500)
    promote(here, "v1.0.0")
    promote(here, "v1.1.0", "canary", share=500)

    with pytest.raises(LoraregError, match="canary of character/zhangsan rolls out already"):
        promote(here, "v1.2.0", "beta", share=500)
    with pytest.raises(LoraregError, match="stable takes no share"):
        promote(here, "v1.2.0", share=500)

    promote(here, "v1.2.0", "beta", allow=("qa",))
    assert pointers(here) == {"beta": "v1.2.0", "canary": "v1.1.0", "stable": "v1.0.0"}


def test_a_version_keeps_its_salt_while_it_rolls_out_and_the_next_one_gets_another(
    here: Released,
) -> None:
    promote(here, "v1.0.0")
    promote(here, "v1.1.0", "canary", share=100, guards=(GUARD,), allow=("qa",))
    first = table(here).table["canary"]
    promote(here, "v1.1.0", "canary", share=500)
    step(here)
    later = table(here).table["canary"]
    promote(here, "v1.2.0", "canary", share=500)
    other = table(here).table["canary"]

    assert (later.salt, later.share) == (first.salt, 2500)
    assert other.salt not in (first.salt, None)
    assert (other.guards, other.allow) == ((GUARD,), ("qa",))


def test_a_rollout_goes_5_25_100_and_then_is_stable(here: Released) -> None:
    promote(here, "v1.0.0")
    promote(here, "v1.1.0", "canary", guards=(GUARD,))
    shares = []
    for _ in range(3):
        step(here)
        shares.append(table(here).table["canary"].share)

    last = step(here)

    assert shares == [500, 2500, 10000]
    assert pointers(here) == {"stable": "v1.1.0"}
    assert "canary brought it there and is removed" in last.move.notes[0]
    assert back(here).after == Channel(version="v1.0.0")


def test_the_steps_of_the_file_are_taken(here: Released) -> None:
    here.write("stable: v1.0.0\ncanary: {version: v1.1.0, steps: [0.5%, 50%, 100%]}\n")
    here.commit("by hand")

    step(here)
    step(here)

    assert table(here).table["canary"].share == 5000


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"face_sim": 0.8199}, "face_sim>=0.82 does not hold: face_sim is 0.8199"),
        ({"other": 1.0}, "face_sim>=0.82 does not hold: face_sim was not measured"),
        ({"face_sim": math.nan}, "face_sim>=0.82 does not hold: face_sim is nan"),
        ({"face_sim": math.inf}, "face_sim>=0.82 does not hold: face_sim is inf"),
        ({"face_sim": True}, "face_sim>=0.82 does not hold: face_sim was not measured"),
        ({"face_sim": "0.9"}, "face_sim>=0.82 does not hold: face_sim was not measured"),
        ({"face_sim": 10**400}, "face_sim>=0.82 does not hold: face_sim is inf"),
    ],
)
def test_a_breach_takes_the_gray_release_back_and_says_why_in_the_commit(
    here: Released, metrics: dict[str, Any], said: str
) -> None:
    promote(here, "v1.0.0")
    promote(here, "v1.1.0", "canary", share=500, guards=(GUARD,))

    done = step(here, Evidence(metrics))

    assert not done.holds
    assert pointers(here) == {"stable": "v1.0.0"}
    assert here.git("log", "-1", "--format=%B").splitlines() == [
        "Roll back character/zhangsan: canary v1.1.0 at 5% -> nothing",
        "",
        said,
    ]
    assert done.readings[0].threshold == 0.82


def test_a_breach_restores_the_gray_release_before(here: Released) -> None:
    promote(here, "v1.0.0")
    promote(here, "v1.1.0", "canary", share=500)
    step(here)
    before = table(here).table["canary"]
    promote(here, "v1.2.0", "canary", share=500, guards=(GUARD,))

    step(here, Evidence({}))

    assert table(here).table["canary"] == before


def test_a_threshold_itself_holds(here: Released) -> None:
    found = guards.judge(
        [GUARD, guards.parse("eval.loss <= 0.3")], {"face_sim": 0.82, "eval": {"loss": 0.3}}
    )

    assert [reading.holds for reading in found] == [True, True]


def test_guards_without_metrics_are_no_breach_but_a_question(here: Released) -> None:
    promote(here, "v1.0.0")
    promote(here, "v1.1.0", "canary", share=500, guards=(GUARD,))

    with pytest.raises(LoraregError, match="has guards, and nothing was measured"):
        step(here, Evidence())

    assert table(here).table["canary"].share == 500


def test_a_metrics_file_may_hold_nan_but_no_key_twice(tmp_path: Path) -> None:
    file = tmp_path / "metrics.json"
    file.write_text('{"face_sim": NaN}')
    assert not guards.judge([GUARD], guards.read(file))[0].holds

    file.write_text('{"face_sim": 0.9, "face_sim": 0.1}')
    with pytest.raises(LoraregError, match="is not JSON"):
        guards.read(file)


def test_a_command_holds_if_it_ends_well_and_no_shell_sees_it(tmp_path: Path) -> None:
    python = sys.executable
    said = "import sys; sys.exit(sys.argv[1:] != ['a;', 'touch', 'made', '$HOME'])"

    good = guards.run(f'{python} -c "{said}" a; touch made $HOME', tmp_path, 30)
    bad = guards.run(f'{python} -c "raise SystemExit(3)"', tmp_path, 30)
    late = guards.run(f'{python} -c "import time; time.sleep(60)"', tmp_path, 0.2)

    assert (good.holds, bad.holds, late.holds) == (True, False, False)
    assert (bad.detail, late.detail) == (
        "it ended with exit status 3", "it did not end within 0.2 seconds",
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["no-such-program-anywhere", "", "'unclosed", "a\0b"])
def test_a_command_that_cannot_start_says_nothing_about_the_release(
    here: Released, command: str
) -> None:
    promote(here, "v1.0.0")
    promote(here, "v1.1.0", "canary", share=500)

    with pytest.raises(ExternalToolError, match="cannot be run"):
        step(here, Evidence(None, command))

    assert table(here).table["canary"].share == 500


@pytest.mark.parametrize("text", ["face_sim", "face_sim>0.8", "face_sim>=nan", ">=1", "a>=1>=2"])
def test_what_is_no_guard_is_refused(text: str) -> None:
    with pytest.raises(LoraregError):
        guards.parse(text)


def test_rollbacks_go_further_back_each_time_and_never_forth(here: Released) -> None:
    for version in ("v1.0.0", "v1.1.0", "v1.2.0"):
        promote(here, version)

    found = [back(here).after, back(here).after]

    assert found == [Channel(version="v1.1.0"), Channel(version="v1.0.0")]
    with pytest.raises(LoraregError, match="pointed nowhere before"):
        back(here)


def test_after_a_rollback_a_new_promotion_goes_back_to_where_it_came_from(here: Released) -> None:
    for version in ("v1.0.0", "v1.1.0"):
        promote(here, version)
    back(here)
    promote(here, "v1.3.0")

    assert back(here).after == Channel(version="v1.0.0")


def test_a_clock_that_runs_back_does_not_change_where_a_rollback_goes(
    here: Released, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day, version in zip((20, 19, 18), ("v1.0.0", "v1.1.0", "v1.2.0"), strict=True):
        monkeypatch.setenv("GIT_COMMITTER_DATE", f"2026-11-{day}T00:00:00Z")
        promote(here, version)

    assert back(here).after == Channel(version="v1.1.0")


def test_a_gray_release_is_taken_back_to_the_one_before_then_removed(here: Released) -> None:
    promote(here, "v1.0.0")
    promote(here, "v1.1.0", "canary", share=500)
    promote(here, "v1.2.0", "canary", share=500)

    first, second = back(here, "canary"), back(here, "canary")

    assert first.after is not None
    assert (first.after.version, second.after) == ("v1.1.0", None)
    with pytest.raises(LoraregError, match="no channel canary"):
        back(here, "canary")


def test_what_cannot_be_served_is_passed_over_on_the_way_back(here: Released) -> None:
    for version in ("v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0"):
        promote(here, version)
    revoke(here, "v1.2.0")
    here.git("tag", "--delete", "character/zhangsan@v1.1.0")

    move = back(here)

    assert move.after == Channel(version="v1.0.0")
    assert "v1.2.0 is passed over" in move.notes[0]
    assert "v1.1.0 is passed over: its tag is not here" in move.notes[1]


def test_a_merge_counts_as_what_it_brought(here: Released) -> None:
    promote(here, "v1.0.0")
    here.git("switch", "--quiet", "-c", "work")
    promote(here, "v1.1.0")
    promote(here, "v1.2.0")
    here.git("switch", "--quiet", "main")
    here.git("merge", "--quiet", "--no-ff", "-m", "merge", "work")

    assert back(here).after == Channel(version="v1.0.0")


def test_the_other_channels_stay_as_they_are_and_are_named(here: Released) -> None:
    promote(here, "v1.0.0")
    promote(here, "v1.1.0")
    promote(here, "v1.2.0", "canary", share=500)

    move = back(here)

    assert move.notes == ("canary v1.2.0 still takes 5% of stable's subjects",)
    assert pointers(here) == {"canary": "v1.2.0", "stable": "v1.0.0"}


def test_a_dry_run_leaves_no_trace(here: Released) -> None:
    promote(here, "v1.0.0")
    head, text = here.git("rev-parse", "HEAD"), here.read()

    moves = [
        promotion.promote(here.workspace, (ZHANGSAN, "v1.1.0"), "stable", dry_run=True),
        promotion.promote(here.workspace, (INK, "v1.1.0"), "stable", dry_run=True),
    ]

    assert [move.commit for move in moves] == [None, None]
    assert (here.git("rev-parse", "HEAD"), here.read()) == (head, text)
    assert here.git("status", "--short") == ""


def test_two_processes_that_promote_at_the_same_time_both_get_their_way(here: Released) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from lorareg.registry.ids import AssetId\n"
        "from lorareg.registry.releases.promotion import promote\n"
        "from lorareg.registry.workspace import Workspace\n"
        "root, version, channel = sys.argv[1:]\n"
        "promote(Workspace(Path(root)), (AssetId('character', 'zhangsan'), version), channel)"
    )
    wanted = [("v1.0.0", "stable"), ("v1.1.0", "beta"), ("v1.2.0", "gamma")]

    running = [
        subprocess.Popen([sys.executable, "-c", code, str(here.root), *each]) for each in wanted
    ]

    assert [process.wait(timeout=120) for process in running] == [0, 0, 0]
    assert pointers(here) == {"beta": "v1.1.0", "gamma": "v1.2.0", "stable": "v1.0.0"}
    assert here.git("rev-list", "--count", "HEAD", "--", "*channels.yaml") == "3"


def test_a_rollout_that_somebody_else_moved_meanwhile_is_left_alone(here: Released) -> None:
    promote(here, "v1.0.0")
    promote(here, "v1.1.0", "canary", share=500)
    script = here.root / "check.py"
    file = here.workspace.folder(ZHANGSAN).channels
    script.write_text(
        f"from pathlib import Path\nfile = Path({str(file)!r})\n"
        "file.write_text(file.read_text().replace('v1.1.0', 'v1.2.0'))\nraise SystemExit(1)\n"
    )

    with pytest.raises(LoraregError, match="moved while its guards were read"):
        step(here, Evidence(None, f"{sys.executable} check.py"))

    assert pointers(here)["canary"] == "v1.2.0"


def test_a_status_says_what_comes_next(here: Released) -> None:
    promote(here, "v1.0.0")
    promote(here, "v1.1.0", "canary", share=2500, guards=(GUARD,))

    found = rollout.status(here.workspace, ZHANGSAN)

    assert json.loads(json.dumps(found)) == [
        {"channel": "stable", "version": "v1.0.0", "share": None, "allow": [], "guards": [],
         "next": None},
        {"channel": "canary", "version": "v1.1.0", "share": "25%", "allow": [],
         "guards": ["face_sim>=0.82"], "next": "100%"},
    ]  # fmt: skip
