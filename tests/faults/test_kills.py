"""SIGKILL at random moments: the same command again finishes, and nobody ever saw a half.

The end must equal that of a run that nobody killed, down to the ids of commits and tags.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults import killing
from tests.faults.hubs import content, seen_by_a_stranger
from tests.faults.killing import Scene
from tests.faults.world import World, command, half_announced, half_placed, objects, state
from tests.hubserver import HubServer
from tests.registry.releases.team import git


@pytest.fixture(scope="module")
def team(founded: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """alice has new work and an unannounced release; bob's clone is behind."""
    from lorareg.registry.releases import release

    world = founded.copy(tmp_path_factory.mktemp("kills") / "team")
    workspace = world.workspace()
    release.make(workspace, world.change("style/ink", 2), None, print)
    return world


def of_alice(world: World) -> dict[str, str]:
    return state(world, "alice")


def of_bob(world: World) -> dict[str, str]:
    return state(world, "bob")


def test_a_killed_push_is_finished_by_the_next_and_never_seen_half(
    team: World, tmp_path: Path
) -> None:
    world = team.copy(tmp_path / "start")
    for number in range(3):
        world.add(f"style/new{number}", 10 + number)

    scene = Scene(command("push"), world, "alice", of_alice, half_announced)

    killing.survive(scene, tmp_path, "SIGKILL of push", 2)


def test_a_killed_pull_is_finished_by_the_next_and_no_half_folder_is_called_fine(
    team: World, tmp_path: Path
) -> None:
    from lorareg.registry.sharing import pushing, receiving

    world = team.copy(tmp_path / "start")
    world.join("bob")
    receiving.pull(world.workspace("bob"), list(world.workspace("bob").assets()), print)
    world.add("style/bobs", 30, clone="bob")
    world.commit("bob", "style/bobs")
    for number in range(3):
        world.add(f"style/new{number}", 10 + number)
    pushing.push(world.workspace(), list(world.workspace().assets()), print)

    scene = Scene(
        command("pull"), world, "bob", of_bob, lambda world, scratch: half_placed(world, "bob")
    )

    killing.survive(scene, tmp_path, "SIGKILL of pull", 1)


def test_a_killed_release_is_finished_by_the_next(team: World, tmp_path: Path) -> None:
    world = team.copy(tmp_path / "start")
    world.change("style/ink", 3)

    def complaints(world: World, scratch: Path) -> list[str]:
        """A push by somebody else in between would announce what is there: it must be whole."""
        tags = git(world.clone("alice"), "tag", "--list").split()
        wrong = [tag for tag in tags if git(world.clone("alice"), "cat-file", "-t", tag) != "tag"]
        return [*wrong, *half_announced(world, scratch)]

    words = command("release", "style/ink", "--major")
    scene = Scene(words, world, "alice", of_alice, complaints)
    scene.done_before = "nothing changed in style/ink since v2.0.0"

    killing.survive(scene, tmp_path, "SIGKILL of release", 1)


def test_a_killed_promote_is_finished_by_the_next(team: World, tmp_path: Path) -> None:
    words = command("promote", "style/ink@v1.0.0", "--channel", "stable")
    scene = Scene(words, team, "alice", of_alice, half_announced)

    killing.survive(scene, tmp_path, "SIGKILL of promote", 1)


COLLECT = """\
import time; from pathlib import Path
from lorareg.registry.upkeep import gc; from lorareg.registry.workspace import Workspace
gc.collect(Workspace(Path.cwd()), now=time.time() + 30 * 24 * 3600)
"""


def test_a_killed_gc_loses_nothing_and_is_finished_by_the_next(team: World, tmp_path: Path) -> None:
    world = team.copy(tmp_path / "start")
    cache, needed = world.workspace().store.cache, set(objects(world.workspace().store.cache))
    for number in range(300):
        world.put(f"nobody names {number}".encode(), cache)
    everything = set(objects(cache))

    def complaints(world: World, scratch: Path) -> list[str]:
        cached = set(objects(world.workspace().store.cache))
        lost = everything - cached - quarantined(world)
        return [f"{name} is lost" for name in lost] + [
            f"{name} is needed and gone" for name in needed - cached
        ]

    def end(world: World) -> dict[str, str]:
        return of_alice(world) | {f"quarantine {name}": "" for name in quarantined(world)}

    scene = Scene([sys.executable, "-c", COLLECT], world, "alice", end, complaints)

    killing.survive(scene, tmp_path, "SIGKILL of gc", 1)


def quarantined(world: World) -> set[str]:
    found = (world.clone("alice") / ".lorareg/quarantine").glob("*/files/.dvc/cache/files/md5/*/*")
    return {place.parent.name + place.name for place in found}


class Hubs:
    """A Hub of its own for every world, over loopback."""

    def __init__(self, stack: ExitStack, home: Path) -> None:
        self._stack, self._home = stack, home
        self._hubs: dict[Path, HubServer] = {}

    def of(self, world: World) -> HubServer:
        return self._hubs[world.top]

    def serve(self, world: World) -> dict[str, str]:
        hub = self._hubs[world.top] = HubServer()
        hub.add_organisation("studio", {"alice": "admin"})
        token = hub.add_user("alice")
        url = self._stack.enter_context(hub.serve())
        return {"HF_ENDPOINT": url, "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1",
                "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(self._home)}  # fmt: skip


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Hubs]:
    with ExitStack() as stack:
        yield Hubs(stack, tmp_path / "hf")


def test_a_killed_publish_is_finished_by_the_next_and_nobody_sees_a_part(
    team: World, served: Hubs, tmp_path: Path
) -> None:
    from lorareg.registry.releases import release

    world = team.copy(tmp_path / "start")
    world.add("style/shown", 40, publish={"hub": "studio/shown", "gated": "manual"})
    release.make(world.workspace(), world.asset("style/shown"), None, print)

    def complaints(world: World, scratch: Path) -> list[str]:
        return seen_by_a_stranger(served.of(world), "studio/shown")

    def end(world: World) -> Mapping[str, str]:
        return of_alice(world) | content(served.of(world), "studio/shown")

    scene = Scene(command("publish", "style/shown"), world, "alice", end, complaints, served.serve)

    killing.survive(scene, tmp_path, "SIGKILL of publish", 1)
