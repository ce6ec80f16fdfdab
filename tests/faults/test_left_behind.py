"""What kills left behind at the worst moment, each made on purpose: nobody is misled by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorareg.registry.releases import channels, promotion, release
from tests.faults.killing import run
from tests.faults.world import World, command
from tests.registry.releases.team import git

KILLS_WHO_COMMITS = """\
#!/bin/sh
kill -9 $(cut -d' ' -f4 /proc/$PPID/stat)
exit 1
"""
LEFT = ".lock.json.0123456789abcdef.tmp"


@pytest.fixture(scope="module")
def rolling(founded: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """v1.0.0 is stable, and v2.0.0 has 5 % of its subjects."""
    world = founded.copy(tmp_path_factory.mktemp("rolling") / "team")
    workspace, asset = world.workspace(), world.asset("style/ink")
    release.make(workspace, asset, None, print)
    world.change("style/ink", 70)
    release.make(workspace, asset, "major", print)
    promotion.promote(workspace, (asset, "v1.0.0"), "stable")
    promotion.promote(workspace, (asset, "v2.0.0"), "canary", promotion.Wish(share=500))
    return world


@pytest.mark.parametrize(
    ("words", "end"),
    [
        (("rollout", "step", "style/ink"), "canary v2.0.0 at 25%"),
        (("rollback", "style/ink", "--channel", "canary"), "canary nothing"),
    ],
)
def test_a_step_that_was_killed_in_its_commit_is_not_taken_twice(
    words: tuple[str, ...], end: str, rolling: World, tmp_path: Path
) -> None:
    world = rolling.copy(tmp_path / "team")
    hook = world.clone("alice") / ".git" / "hooks" / "pre-commit"
    hook.write_text(KILLS_WHO_COMMITS)
    hook.chmod(0o755)

    killed = run(command(*words), world.clone("alice"), {})
    hook.unlink()
    written = world.workspace().history.changed()
    again = run(command(*words), world.clone("alice"), {})

    assert (killed.status, again.status) == (-9, 0), again.said
    assert [path.name for path in written] == ["channels.yaml", "signature.json"]
    canary = channels.load(
        world.workspace().folder(world.asset("style/ink")).channels, world.asset("style/ink")
    ).table.get("canary")
    told = f"canary {canary.version} at {canary.share // 100}%" if canary else "canary nothing"
    assert told == end
    assert world.workspace().history.changed() == ()


def test_what_a_killed_command_was_writing_is_in_nobodys_way_and_not_committed(
    rolling: World, tmp_path: Path
) -> None:
    world = rolling.copy(tmp_path / "team")
    left = world.workspace().folder(world.asset("style/ink")).path / LEFT
    left.write_text("{")

    promoted = run(
        command("promote", "style/ink@v2.0.0", "--channel", "stable"), world.clone("alice"), {}
    )
    pushed = run(command("push"), world.clone("alice"), {})

    assert (promoted.status, pushed.status) == (0, 0), promoted.said + pushed.said
    assert LEFT not in git(world.origin, "ls-tree", "-r", "--name-only", "main")
    assert left.exists(), "gc takes it later"


def test_the_checkout_of_a_killed_command_is_removed_by_the_next_and_a_live_one_stays(
    rolling: World, tmp_path: Path
) -> None:
    world = rolling.copy(tmp_path / "team")
    history, places = world.workspace().history, tmp_path / "checkouts"
    dead = places / "lorareg-deadbeef"
    git(world.clone("alice"), "worktree", "add", "-q", "--lock", "--detach", f"{dead}/{dead.name}")

    with (
        history.worktree("HEAD", inside=places) as first,
        history.worktree("HEAD", inside=places) as second,
    ):
        alive = first.is_dir() and second.is_dir()

    assert alive
    assert not dead.exists()
    assert len(git(world.clone("alice"), "worktree", "list").splitlines()) == 1


@pytest.mark.parametrize("local", [False, True])
def test_a_checkout_that_was_killed_half_way_is_no_work_of_somebodys(
    local: bool, rolling: World, tmp_path: Path
) -> None:
    world = rolling.copy(tmp_path / "team")
    bob = world.join("bob")
    if local:
        world.add("style/bobs", 80, clone="bob")
        world.commit("bob", "style/bobs")
    world.add("style/more", 81)
    assert run(command("push"), world.clone("alice"), {}).status == 0
    git(bob, "fetch", "-q")
    git(bob, "restore", "--source=origin/main", "--", "manifests/style/more", "manifests/style/ink")
    assert world.workspace("bob").history.changed()

    pulled = run(command("pull"), bob, {})

    assert pulled.status == 0, pulled.said
    assert world.workspace("bob").history.changed() == ()
    assert (bob / "manifests/style/more/weights").is_dir()
