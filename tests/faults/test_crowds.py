"""Many at once, in processes and threads of their own: everybody's work is kept."""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lorareg.registry.releases import release, tags
from tests.faults.rounds import Tally, seeds
from tests.faults.world import World, command, environment, half_announced
from tests.registry.releases.team import git

CROWD = 10 if "LORAREG_FAULTS" in os.environ else 4
PATIENCE = 300.0


@pytest.fixture(scope="module")
def crowd(founded: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Many clones."""
    world = founded.copy(tmp_path_factory.mktemp("crowds") / "team")
    for number in range(CROWD):
        world.join(f"clone{number}")
    return world


@pytest.fixture
def world(crowd: World, tmp_path: Path) -> World:
    return crowd.copy(tmp_path / "team")


def all_at_once(lines: list[tuple[Path, list[str]]]) -> list[tuple[int, str]]:
    """Start every command, then wait for all: status and standard error of each."""
    running = [
        subprocess.Popen(
            words, cwd=folder, env=environment(), text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        for folder, words in lines
    ]  # fmt: skip
    said = [process.communicate(timeout=PATIENCE)[1] for process in running]
    return [(process.returncode, text) for process, text in zip(running, said, strict=True)]


def test_many_who_push_different_assets_at_once_are_all_announced_and_verified(
    world: World, tmp_path: Path
) -> None:
    tally = Tally(f"{CROWD} processes push different assets")
    names = [f"style/of{number}" for number in range(CROWD)]
    for draw in seeds(1):
        for number, name in enumerate(names):
            world.add(name, draw.number * CROWD + number, clone=f"clone{number}")

        ended = all_at_once(
            [(world.clone(f"clone{n}"), command("push", name)) for n, name in enumerate(names)]
        )

        tally.count("pushes", len(ended))
        tally.count("finished", sum(status == 0 for status, _ in ended))
        tally.wrong("refused", draw.number, [said for status, said in ended if status != 0])
        on_origin = git(world.origin, "ls-tree", "-r", "--name-only", "main").splitlines()
        absent = [name for name in names if f"manifests/{name}/weights.dvc" not in on_origin]
        tally.wrong("lost", draw.number, absent)
        for number, name in enumerate(names):
            there = git(world.origin, "rev-parse", f"main:manifests/{name}/lock.json")
            file = world.clone(f"clone{number}") / f"manifests/{name}/lock.json"
            mine = git(world.origin, "hash-object", str(file))
            tally.wrong("replaced", draw.number, [name] if mine != there else [])
        tally.wrong("half-announced", draw.number, half_announced(world, tmp_path / "observer"))
    tally.must_be_clean()


def test_of_many_who_push_the_same_asset_one_wins_and_the_others_keep_theirs(
    world: World, tmp_path: Path
) -> None:
    tally = Tally(f"{CROWD} processes push the same asset")
    clones = [f"clone{number}" for number in range(CROWD)]
    for draw in seeds(1):
        mine = {}
        for number, clone in enumerate(clones):
            world.change("style/ink", draw.number * CROWD + number, clone=clone)
            mine[clone] = of_disk(world, clone)

        ended = all_at_once([(world.clone(name), command("push", "style/ink")) for name in clones])

        tally.count("pushes", len(ended))
        won = [name for name, (status, _) in zip(clones, ended, strict=True) if status == 0]
        tally.count("won", len(won))
        tally.wrong("winners", draw.number, won if len(won) != 1 else [])
        told = [said for status, said in ended if status != 0]
        tally.count("told what and how", sum("fix" in text and "ink" in text for text in told))
        tally.wrong("untold", draw.number, [t for t in told if "fix" not in t or "ink" not in t])
        changed = [name for name in clones if of_disk(world, name) != mine[name]]
        tally.wrong("lost from a disk", draw.number, changed)
        uncommitted = [name for name in clones if world.workspace(name).history.changed()]
        tally.wrong("uncommitted", draw.number, uncommitted)
        tally.wrong("half-announced", draw.number, half_announced(world, tmp_path / "observer"))
        for clone in clones:
            git(world.clone(clone), "fetch", "-q")
            git(world.clone(clone), "reset", "-q", "--hard", "origin/main")
    tally.must_be_clean()


def of_disk(world: World, clone: str) -> tuple[bytes, bytes]:
    folder = world.workspace(clone).folder(world.asset("style/ink"))
    (weights,) = folder.weights.iterdir()
    return folder.lock.read_bytes(), weights.read_bytes()


def test_threads_that_release_different_assets_make_a_release_each(
    world: World, tmp_path: Path
) -> None:
    tally = Tally(f"{CROWD} threads release different assets")
    names = [f"style/of{number}" for number in range(CROWD)]
    for draw in seeds(1):
        place = world.copy(tmp_path / "round")
        for number, name in enumerate(names):
            place.add(name, draw.number * CROWD + number)
        with ThreadPoolExecutor(CROWD) as pool:
            made = list(
                pool.map(
                    lambda name, place=place: release.make(
                        place.workspace(), place.asset(name), None, lambda text: None
                    ),
                    names,
                )
            )

        tally.count("releases", len(made))
        workspace = place.workspace()
        for name in names:
            bad = [each for each in tags.check(workspace, place.asset(name)) if not each.ok]
            tally.wrong("objections", draw.number, [f"{name}: {each.detail}" for each in bad])
        known = git(place.clone("alice"), "tag", "--list").splitlines()
        tally.wrong("lost", draw.number, sorted({f"{name}@v1.0.0" for name in names} - {*known}))
        left = map(str, workspace.history.changed())
        tally.wrong("uncommitted", draw.number, list(left))
        shutil.rmtree(place.top)
    tally.must_be_clean()


def test_of_two_who_release_the_same_version_one_is_announced_and_the_other_told(
    world: World, tmp_path: Path
) -> None:
    tally = Tally("two clones release the same version")
    for draw in seeds(1):
        place = world.copy(tmp_path / "round")
        two = ["clone0", "clone1"]
        for number, clone in enumerate(two):
            place.change("style/ink", draw.number * 2 + number, clone=clone)
        words = command("release", "style/ink")

        ended = all_at_once([(place.clone(clone), words) for clone in two])
        pushed = all_at_once([(place.clone(clone), command("push", "style/ink")) for clone in two])

        tally.count("releases", sum(status == 0 for status, _ in ended))
        tally.wrong("unreleased", draw.number, [said for status, said in ended if status != 0])
        won = [clone for clone, (status, _) in zip(two, pushed, strict=True) if status == 0]
        tally.count("announced", len(won))
        tally.wrong("winners", draw.number, won if len(won) != 1 else [])
        told = [said for status, said in pushed if status != 0]
        tally.wrong("untold", draw.number, [said for said in told if "fix" not in said])
        for clone in won:
            mine = git(place.clone(clone), "rev-parse", "style/ink@v1.0.0")
            there = git(place.origin, "rev-parse", "style/ink@v1.0.0")
            tally.wrong("moved", draw.number, [] if mine == there else [clone])
        for clone in two:
            kept = git(place.clone(clone), "tag", "--list") == "style/ink@v1.0.0"
            tally.wrong("lost", draw.number, [] if kept else [clone])
        tally.wrong("half-announced", draw.number, half_announced(place, tmp_path / "observer"))
        shutil.rmtree(place.top)
    tally.must_be_clean()


def test_two_processes_in_one_clone_make_one_release(world: World, tmp_path: Path) -> None:
    tally = Tally("two processes release in one clone")
    for draw in seeds(1):
        place = world.copy(tmp_path / "round")
        place.change("style/ink", draw.number)
        here = (place.clone("alice"), command("release", "style/ink"))

        ended = all_at_once([here, here])

        done = sum(status == 0 for status, _ in ended)
        tally.count("released", done)
        refused = [said for status, said in ended if status != 0]
        strange = [said for said in refused if "nothing changed in style/ink since" not in said]
        tally.wrong("strange", draw.number, strange if done else [said for _, said in ended])
        known = git(place.clone("alice"), "tag", "--list").split()
        tally.wrong("releases", draw.number, known if known != ["style/ink@v1.0.0"] else [])
        findings = tags.check(place.workspace(), place.asset("style/ink"))
        tally.wrong("objections", draw.number, [e.detail for e in findings if not e.ok])
        shutil.rmtree(place.top)
    tally.must_be_clean()
