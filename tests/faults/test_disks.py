"""A disk that is full, at many sizes, and folders that cannot be written.

Whoever made room runs the same command again, and it finishes; what was there is still there.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.rounds import Seeded, Tally, seeds
from tests.faults.world import (
    World,
    command,
    differences,
    environment,
    half_announced,
    half_placed,
    state,
)

PR_CAPBSET_DROP = 24
WRITES_ANYWAY = (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: what makes root ignore modes
ROOM = 1 << 20  # bytes of the largest file that is small


@dataclass(frozen=True)
class Tried:
    status: int
    said: str

    @property
    def is_told(self) -> bool:
        """What, why and how to go on; never a traceback."""
        words = ("error ", "\nwhy ", "\nfix ")
        return all(word in f"\n{self.said}" for word in words) and "Traceback" not in self.said


def attempt(
    world: World, clone: str, words: list[str], prepare: Callable[[], None] | None = None
) -> Tried:
    done = subprocess.run(
        words, cwd=world.clone(clone), env=environment(), text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=prepare, timeout=180,
    )  # fmt: skip
    return Tried(done.returncode, done.stderr)


@pytest.fixture(scope="module")
def pushing(founded: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """alice has two new adapters."""
    world = founded.copy(tmp_path_factory.mktemp("pushing") / "team")
    for number in range(2):
        world.add(f"style/new{number}", 50 + number)
    return world


@pytest.fixture(scope="module")
def pulling(founded: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """bob lacks everything."""
    world = founded.copy(tmp_path_factory.mktemp("pulling") / "team")
    world.join("bob")
    return world


@pytest.fixture(scope="module")
def ends(
    pushing: World, pulling: World, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Mapping[str, str]]:
    """How the two commands end where there is room."""
    found = {}
    for name, clone, start in (("push", "alice", pushing), ("pull", "bob", pulling)):
        world = start.copy(tmp_path_factory.mktemp("room") / "team")
        done = attempt(world, clone, command(name))
        assert done.status == 0, done.said
        found[name] = state(world, clone)
    return found


def limited(draw: Seeded) -> Callable[[], None]:
    """No file may grow beyond a size that no weights fit in."""
    size = draw.randrange(100_000, ROOM)
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize(("verb", "clone"), [("push", "alice"), ("pull", "bob")])
def test_what_a_file_too_large_stopped_is_finished_when_there_is_room(
    verb: str,
    clone: str,
    pushing: World,
    pulling: World,
    ends: Mapping[str, Mapping[str, str]],
    tmp_path: Path,
) -> None:
    tally = Tally(f"no room for a file: {verb}")
    for draw in seeds(1):
        world = (pushing if verb == "push" else pulling).copy(tmp_path / "team")

        failed = attempt(world, clone, command(verb), limited(draw))

        tally.count("failures")
        tally.wrong("untold", draw.number, [] if failed.is_told else [failed.said])
        _finished(tally, draw, (verb, clone), world, ends[verb])
        shutil.rmtree(world.top)
    tally.must_be_clean()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[Path, int], Callable[[], None]]]:
    """Put a folder on a disk of so many bytes; the answer makes room."""
    mounted: list[Path] = []

    def mount(folder: Path, size: int) -> Callable[[], None]:
        kept = tmp_path / "kept"
        folder.mkdir(exist_ok=True)
        shutil.copytree(folder, kept, symlinks=True)
        options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "lorareg-test", str(folder)]
        if os.geteuid() != 0 or subprocess.run(options, capture_output=True).returncode != 0:
            pytest.skip("mounting a small disk takes rights that are not here")
        mounted.append(folder)
        shutil.copytree(kept, folder, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(kept)
        larger = ["mount", "-o", "remount,size=1g", str(folder)]
        return lambda: subprocess.run(larger, check=True).check_returncode()

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(
    ("verb", "clone", "place"),
    [("push", "alice", "bytes"), ("push", "alice", "alice"), ("pull", "bob", "bob")],
)
def test_what_a_full_disk_stopped_is_finished_when_there_is_room(
    verb: str,
    clone: str,
    place: str,
    pushing: World,
    pulling: World,
    ends: Mapping[str, Mapping[str, str]],
    tmp_path: Path,
    small_disk: Callable[[Path, int], Callable[[], None]],
) -> None:
    tally = Tally(f"a full disk under {place}: {verb}")
    for draw in seeds(1):
        world = (pushing if verb == "push" else pulling).copy(tmp_path / f"team{draw.number}")
        used = sum(path.stat().st_size for path in world.clone(place).rglob("*") if path.is_file())
        slack = used // 20 + 400_000  # blocks are larger than what is in them
        room = draw.randrange(4096, 1_200_000)
        make_room = small_disk(world.clone(place), used + slack + room)

        failed = attempt(world, clone, command(verb))

        tally.count("failures", failed.status != 0)
        tally.count("fitted", failed.status == 0)
        bad = [] if failed.status == 0 or failed.is_told else [failed.said]
        tally.wrong("untold", draw.number, bad)
        wrong = half_announced(world, tmp_path / "observer")
        tally.wrong("half-announced", draw.number, wrong)
        make_room()
        _finished(tally, draw, (verb, clone), world, ends[verb])
    tally.must_be_clean()


def without_override() -> None:
    """Let root feel the modes of files, as everybody does."""
    if os.geteuid() == 0:
        for capability in WRITES_ANYWAY:
            ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


PLACES = {
    "push": (
        "bytes/files/md5", "bytes", "alice/manifests/style/new0", "alice/.dvc/tmp",
        "alice/.dvc/cache/files/md5", "alice/.git", "origin.git", "alice/.lorareg",
    ),
    "pull": ("bob/manifests/style/ink", "bob/.git", "bob/.dvc"),
}  # fmt: skip


@pytest.mark.parametrize(("verb", "clone"), [("push", "alice"), ("pull", "bob")])
def test_what_a_read_only_folder_stopped_is_finished_when_it_can_be_written(
    verb: str,
    clone: str,
    pushing: World,
    pulling: World,
    ends: Mapping[str, Mapping[str, str]],
    tmp_path: Path,
) -> None:
    tally = Tally(f"a read-only folder: {verb}")
    for draw in seeds(1):
        world = (pushing if verb == "push" else pulling).copy(tmp_path / "team")
        name = draw.choice(PLACES[verb])
        folder = world.top / name
        folder.mkdir(parents=True, exist_ok=True)
        mode = folder.stat().st_mode
        folder.chmod(0o555)

        failed = attempt(world, clone, command(verb), without_override)

        tally.count("refused", failed.status != 0)
        tally.count("needed nothing there", failed.status == 0)
        bad = [] if failed.status == 0 or failed.is_told else [f"{name}: {failed.said}"]
        tally.wrong("untold", draw.number, bad)
        folder.chmod(mode)
        _finished(tally, draw, (verb, clone), world, ends[verb])
        shutil.rmtree(world.top)
    tally.must_be_clean()


def _finished(
    tally: Tally, draw: Seeded, what: tuple[str, str], world: World, end: Mapping[str, str]
) -> None:
    """Nothing half is seen; the same command ends as if nothing had been in its way."""
    verb, clone = what
    wrong = half_announced(world, world.top.parent / "observer") + half_placed(world, clone)
    tally.wrong("half-announced", draw.number, wrong)
    again = attempt(world, clone, command(verb))
    tally.count("finished", again.status == 0)
    tally.wrong("unfinished", draw.number, [again.said] if again.status else [])
    found = differences(state(world, clone), dict(end))
    tally.count("equal", not found)
    tally.wrong("lost", draw.number, found)
