"""Remotes that vanish, refuse or fail in the middle: run it again, and it ends as it should."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2
import pytest

from lorareg.errors import LoraregError
from lorareg.registry.ids import Ref
from lorareg.registry.publishing import publish, subject
from lorareg.registry.releases import release
from tests.faults import hubs
from tests.faults.rounds import Seeded, Tally, seeds, tell
from tests.faults.world import (
    World,
    command,
    differences,
    environment,
    half_announced,
    half_placed,
    state,
)
from tests.hub.protocol import Ask
from tests.hubserver import Fault, HubServer
from tests.registry.releases.team import git


@pytest.fixture(scope="module")
def team(founded: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """alice has two new adapters; bob has fetched nothing."""
    world = founded.copy(tmp_path_factory.mktemp("remotes") / "team")
    world.join("bob")
    for number in range(2):
        world.add(f"style/new{number}", 60 + number)
    return world


@dataclass(frozen=True)
class Ended:
    status: int
    said: str
    seconds: float

    @property
    def is_told(self) -> bool:
        said = f"\n{self.said}"
        return "\nerror " in said and "\nfix " in said and "Traceback" not in said


def run(world: World, clone: str, verb: str, vanish: float | None = None) -> Ended:
    """Run a command; after so many seconds the folder with the bytes is somewhere else."""
    begun = time.monotonic()
    process = subprocess.Popen(
        command(verb), cwd=world.clone(clone), env=environment(), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    if vanish is not None:
        time.sleep(vanish)
        world.bytes.rename(world.top / "elsewhere")
    _, said = process.communicate(timeout=180)
    return Ended(process.returncode, said, time.monotonic() - begun)


@pytest.mark.parametrize(("verb", "clone"), [("push", "alice"), ("pull", "bob")])
def test_a_remote_that_vanishes_in_the_middle_is_told_and_what_it_stopped_is_finished(
    verb: str, clone: str, team: World, tmp_path: Path
) -> None:
    tally = Tally(f"the bytes' remote vanishes: {verb}")
    undisturbed = team.copy(tmp_path / "undisturbed")
    done = run(undisturbed, clone, verb)
    assert done.status == 0, done.said
    wanted = state(undisturbed, clone)
    for draw in seeds(1):
        world = team.copy(tmp_path / "team")

        ended = run(world, clone, verb, vanish=draw.uniform(0, done.seconds))

        tally.count("stopped", ended.status != 0)
        tally.count("done before", ended.status == 0)
        bad = [] if ended.status == 0 or ended.is_told else [ended.said]
        tally.wrong("untold", draw.number, bad)
        anew = [ended.said] if world.bytes.exists() else []
        tally.wrong("made anew", draw.number, anew)
        shutil.rmtree(world.bytes, ignore_errors=True)
        (world.top / "elsewhere").rename(world.bytes)
        wrong = half_announced(world, tmp_path / "observer") + half_placed(world, clone)
        tally.wrong("half-announced", draw.number, wrong)
        again = run(world, clone, verb)
        tally.count("finished", again.status == 0)
        tally.wrong("unfinished", draw.number, [again.said] if again.status else [])
        _equal(tally, draw, state(world, clone), wanted)
        shutil.rmtree(world.top)
    tally.must_be_clean()


HOOK = """\
#!/bin/sh
left=$(cat "$GIT_DIR/refusals")
[ "$left" -eq 0 ] && exit 0
echo $((left - 1)) > "$GIT_DIR/refusals"
echo "the store of tags already exists and is being moved" >&2
exit 1
"""


def test_a_git_remote_that_refuses_gets_the_push_when_it_takes_it(
    team: World, tmp_path: Path
) -> None:
    tally = Tally("the git remote refuses")
    undisturbed = team.copy(tmp_path / "undisturbed")
    assert run(undisturbed, "alice", "push").status == 0
    wanted = state(undisturbed, "alice")
    for draw in seeds(1):
        world = team.copy(tmp_path / "team")
        times = draw.randint(1, 3)
        hook = world.origin / "hooks" / "pre-receive"
        hook.write_text(HOOK)
        hook.chmod(0o755)
        (world.origin / "refusals").write_text(str(times))
        before = git(world.origin, "for-each-ref")

        for _ in range(times):
            ended = run(world, "alice", "push")
            tally.count("refusals", ended.status == 2)
            told = ended.is_told and "is being moved" in ended.said
            tally.wrong("untold", draw.number, [] if told else [ended.said])
            moved = git(world.origin, "for-each-ref") != before
            tally.wrong("half-announced", draw.number, ["origin moved"] if moved else [])
        ended = run(world, "alice", "push")

        tally.count("finished", ended.status == 0)
        wrong = half_announced(world, tmp_path / "observer")
        tally.wrong("half-announced", draw.number, wrong)
        _equal(tally, draw, state(world, "alice"), wanted)
        shutil.rmtree(world.top)
    tally.must_be_clean()


@dataclass
class AtCall(Fault):
    """Strikes at one request, counted from now.

    Attributes:
        number: of the request, from 1.
        cut: whether the connection breaks, instead of an answer with ``status``.
    """

    number: int = 1
    cut: bool = False

    def strikes(self, ask: Ask, *, before: bool) -> bool:
        if before != self.before:
            return False
        self.number -= 1
        return self.number == 0


def break_off() -> None:
    raise httpx2.RemoteProtocolError("peer closed connection without sending complete message body")


def test_a_hub_that_fails_at_any_call_has_the_whole_release_after_some_more_runs(
    team: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorareg.registry.publishing.door.time.sleep", lambda seconds: None)
    world = team.copy(tmp_path / "team")
    world.add("style/shown", 40, publish={"hub": "studio/shown", "gated": "manual"})
    release.make(world.workspace(), world.asset("style/shown"), None, print)
    whole = HubServer()
    assert publish_once(world, whole) is None
    wanted, calls = hubs.content(whole, "studio/shown"), len(whole.log)
    tally = Tally(f"a Hub fails at one of {calls} calls")
    for draw in seeds(8):
        hub = HubServer()
        for _ in range(draw.randint(1, 3)):
            fault = drawn(draw, calls)
            hub.faults.append(fault)
            tally.count("faults")
        refusals = 0
        while (error := publish_once(world, hub)) and refusals < 8:
            refusals += 1
            tally.wrong("untold", draw.number, [] if error.fix else [error.what])
            wrong = hubs.seen_by_a_stranger(hub, "studio/shown")
            tally.wrong("half-announced", draw.number, wrong)
        tell(f"  seed {draw.number}: {refusals} refusals, then {error or 'done'}")
        tally.count("refusals", refusals)
        tally.count("finished", error is None)
        tally.wrong("unfinished", draw.number, [] if error is None else [error.sentence])
        wrong = hubs.seen_by_a_stranger(hub, "studio/shown")
        tally.wrong("half-announced", draw.number, wrong)
        _equal(tally, draw, hubs.content(hub, "studio/shown"), wanted)
    tally.must_be_clean()


def drawn(draw: Seeded, calls: int) -> AtCall:
    """Some request fails, or happens and its answer is lost."""
    status = draw.choice([429, 500, 502, 503, 504, 412, 0])
    fault = AtCall("", "", status or 503, 1, before=draw.random() < 0.5, number=0)
    fault = replace(fault, number=draw.randint(1, calls))
    return fault if status else replace(fault, effect=break_off)


def publish_once(world: World, hub: HubServer) -> LoraregError | None:
    """Publish as alice; what it refuses with."""
    if "studio" not in hub.organisations:
        hub.add_organisation("studio", {"alice": "admin"})
    token = hub.add_user("alice")
    workspace = world.workspace()
    with hub.in_process(token, cache=world.top / "hub-cache"):
        try:
            wanted = subject.find(workspace, Ref.parse("style/shown"))
            publish.publish(workspace, wanted, lambda text: None)
        except LoraregError as error:
            return error
    return None


def _equal(tally: Tally, draw: Seeded, found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    wrong = differences(dict(found), dict(wanted))
    tally.count("equal", not wrong)
    tally.wrong("lost", draw.number, wrong)
