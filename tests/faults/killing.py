"""A command in a process of its own that is killed at a random moment, and run again."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.rounds import Seeded, Tally, seeds, tell
from tests.faults.world import World, differences, environment

PATIENCE = 180.0
LOCK = re.compile(r"rm '([^']+\.lock)'")
"""What the error advises where the machine went down while git wrote."""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        status: None: it was killed.
        seconds: that it ran.
        said: standard error.
    """

    status: int | None
    seconds: float
    said: str


@dataclass
class Scene:
    """A command, the world it runs in, and who looks at that world.

    Attributes:
        words: command line.
        start: the world as it is before the command.
        clone: folder that the command runs in.
        state: everything that must be equal in the end.
        observe: what somebody else finds wrong at any moment; a scratch folder is given.
        serve: makes what lives in memory beside a world; its answer is more environment.
        done_before: what it says, refusing, where it was killed after all was done.
    """

    words: Sequence[str]
    start: World
    clone: str
    state: Callable[[World], Mapping[str, str]]
    observe: Callable[[World, Path], list[str]]
    serve: Callable[[World], Mapping[str, str]] = field(default=lambda world: {})
    done_before: str | None = None


def run(
    words: Sequence[str], folder: Path, more: Mapping[str, str], *, kill: float | None = None,
    group: bool = False,
) -> Ended:  # fmt: skip
    """Run a command; kill it after so many seconds: itself, or all that it started as well."""
    begun = time.monotonic()
    log = folder.parent / f"{folder.name}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            words, cwd=folder, env=environment(**more), stdin=subprocess.DEVNULL,
            stdout=stream, stderr=stream, start_new_session=True,
        )  # fmt: skip
    try:
        process.wait(PATIENCE if kill is None else max(0.0, kill))
    except subprocess.TimeoutExpired:
        (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
        process.wait()
        if kill is None:
            raise
        return Ended(None, time.monotonic() - begun, log.read_text("utf-8", "replace"))
    seconds = time.monotonic() - begun
    return Ended(process.returncode, seconds, log.read_text("utf-8", "replace"))


def survive(scene: Scene, scratch: Path, kind: str, default: int) -> None:
    """Kill the command again and again, each time in a new world, and compare the ends."""
    tally = Tally(kind)
    wanted, duration = _undisturbed(scene, scratch / "undisturbed")
    tell(f"{kind}: {duration:.2f} s when nobody kills it, {len(wanted)} facts to compare")
    for draw in seeds(default):
        place = scratch / f"seed{draw.number}"
        world = scene.start.copy(place / "world")
        _round(scene, world, draw, duration, tally)
        wrong = differences(dict(scene.state(world)), dict(wanted))
        tally.wrong("lost", draw.number, wrong)
        tally.count("equal", not wrong)
        shutil.rmtree(place)
    tally.must_be_clean()


def _undisturbed(scene: Scene, place: Path) -> tuple[Mapping[str, str], float]:
    world = scene.start.copy(place / "world")
    done = run(scene.words, world.clone(scene.clone), scene.serve(world))
    assert done.status == 0, done.said
    assert scene.observe(world, place / "observer") == []
    found = scene.state(world)
    shutil.rmtree(place)
    return found, done.seconds


def _round(scene: Scene, world: World, draw: Seeded, duration: float, tally: Tally) -> None:
    """Kill it once or twice, look each time, then let it end."""
    folder, more = world.clone(scene.clone), scene.serve(world)
    moments, told = 1 + (draw.random() < 0.3), []
    for number in range(moments):
        moment, group = draw.uniform(0, duration), draw.random() < 0.5
        ended = run(scene.words, folder, more, kill=moment, group=group)
        told.append(f"{'all' if group else 'it'} at {moment:.3f} s")
        tally.count("kills" if ended.status is None else "ended before")
        wrong = scene.observe(world, world.top.parent / f"observer{number}")
        tally.wrong("half-announced", draw.number, wrong)
    ended = run(scene.words, folder, more)
    while ended.status != 0 and (lock := LOCK.search(ended.said)):
        Path(lock[1]).unlink()  # as the message says: git itself leaves it to people
        tally.count("lock removed as told")
        ended = run(scene.words, folder, more)
    tell(f"  seed {draw.number}: killed {', '.join(told)}; then {ended.seconds:.2f} s")
    done = ended.status == 0 or (scene.done_before or "\0") in ended.said
    tally.count("finished", done)
    tally.wrong("unfinished", draw.number, [] if done else [ended.said])
    wrong = scene.observe(world, world.top.parent / "observer")
    tally.wrong("half-announced", draw.number, wrong)
