"""A registry with everything in it, a world outside of it, and a way to run any command there."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from typer.testing import CliRunner

from lorareg.cli.app import app
from lorareg.registry.ids import AssetId
from lorareg.registry.workspace import Workspace
from tests.registry.releases.team import git

INK = AssetId("style", "ink")
WASH = AssetId("style", "wash")
GONE = AssetId("style", "gone")
DUO = AssetId("recipe", "duo")
REPEATS = int(os.environ.get("LORAREG_FAULTS", "0"))
"""How many random cases a file; 0 is the short run of every day."""
SECRET = "OUTSIDE-7f3a91"  # in every file outside; it must never be printed
SECONDS = 240.0 if REPEATS else 60.0
"""After which a command hangs; on a busy machine an import of torch alone takes a minute."""
UNPRINTABLE = {chr(code) for code in (*range(9), *range(11, 32), 127, *range(0x80, 0xA0))}


class HungError(BaseException):
    """A command that did not end; no ``except Exception`` may swallow it."""


@dataclass(frozen=True)
class Answer:
    """What a command gave back."""

    arguments: tuple[str, ...]
    code: int
    out: str
    err: str
    crash: str

    @property
    def text(self) -> str:
        """All that it said."""
        return self.out + self.err

    def problems(self) -> list[str]:
        """What no command may do, whatever it finds."""
        found = []
        if self.crash:
            found.append(f"ended with {self.crash}")
        if self.code not in (0, 1, 2):
            found.append(f"status {self.code}")
        if self.code == 2 and not ("error " in self.err and "fix " in self.err):
            found.append(f"no error in three lines: {self.text[-300:]!r}")
        if "Traceback" in self.text:
            found.append("a traceback")
        if SECRET in self.text:
            found.append(f"it tells what is outside: {_around(self.text, SECRET)!r}")
        if raw := UNPRINTABLE & {*self.text}:
            first = min(raw)
            found.append(f"{first!r} as it is: {_around(self.text, first)!r}")
        return [f"{' '.join(self.arguments)}: {each}" for each in found]


def _around(text: str, part: str) -> str:
    place = text.index(part)
    return text[max(0, place - 120) : place + 60]


@dataclass(frozen=True)
class Place:
    """A folder with ``registry/`` and, beside it, what is none of its business."""

    top: Path

    @property
    def root(self) -> Path:
        return self.top / "registry"

    @property
    def outside(self) -> Path:
        return self.top / "outside"

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root)

    def path(self, name: str, asset: AssetId = INK) -> Path:
        """A file by what people call it: of the asset's folder unless it begins with ``/``."""
        return self.root / (name[1:] if name.startswith("/") else f"manifests/{asset}/{name}")

    def git(self, *arguments: str) -> str:
        return git(self.root, *arguments)

    def run(self, *arguments: str, seconds: float = SECONDS) -> Answer:
        """A command, as it is typed in the registry."""
        before = Path.cwd()
        os.chdir(self.root)
        try:
            with limited(seconds):
                done = CliRunner().invoke(app, list(arguments))
        except HungError:
            return Answer(arguments, -1, "", "", f"no answer within {seconds} s")
        finally:
            os.chdir(before)
        error = done.exception
        crash = "" if error is None or isinstance(error, SystemExit) else _crash(error)
        return Answer(arguments, done.exit_code, done.stdout, done.stderr, crash)

    def surroundings(self) -> dict[str, object]:
        """What is outside of the registry, where no command here has any business."""
        found: dict[str, object] = {"beside": sorted(each.name for each in self.top.iterdir())}
        for path in sorted(self.outside.rglob("*")):
            stat = path.lstat()
            known = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            found[str(path)] = (stat.st_mode, stat.st_size, stat.st_mtime_ns, known)
        return found


def _crash(error: BaseException) -> str:
    trace, places = error.__traceback__, []
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "/lorareg/" in file:
            places.append(f"{Path(file).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return f"{type(error).__name__}: {str(error)[:200]} ({' < '.join(reversed(places[-6:]))})"


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Interrupt what does not end, also where it waits for the system."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise HungError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def copy(template: Path, top: Path) -> Place:
    """The template elsewhere; its git remote and its DVC remote are named relative to it."""
    shutil.copytree(template, top, symlinks=True)
    return Place(top)


READING: tuple[tuple[str, ...], ...] = (
    ("list",),
    ("list", "--json"),
    ("show", "style/ink"),
    ("show", "style/ink", "--json"),
    ("show", "style/ink@v1.0.0"),
    ("status",),
    ("status", "--json"),
    ("verify",),
    ("verify", "style/ink", "--json"),
    ("log", "style/ink"),
    ("diff", "style/ink@v1.0.0", "style/ink"),
    ("search", "ink"),
    ("resolve", "style/ink@stable", "--subject", "player-1"),
    ("resolve", "style/ink@canary", "--json"),
    ("rollout", "status", "style/ink"),
    ("access", "list"),
    ("access", "uses"),
    ("access", "uses", "--check"),
    ("gc",),
    ("gc", "--remote", "storage"),
    ("policy", "check"),
    ("policy", "show"),
    ("push", "--dry-run"),
    ("release", "style/ink", "--dry-run"),
    ("compose", "style/ink:0.5+style/wash:0.5", "--dry-run"),
    ("compose", "style/ink@stable:0.5+style/wash:0.5", "--dry-run"),
    ("compose", "verify", "recipe/duo"),
    ("compose", "upgrade", "recipe/duo", "--dry-run"),
)
WRITING: tuple[tuple[str, ...], ...] = (
    ("pull",),
    ("pull", "style/ink@v1.0.0"),
    ("push",),
    ("release", "style/ink"),
    ("promote", "style/ink@v1.0.0", "--channel", "canary", "--share", "5%"),
    ("rollout", "step", "style/ink"),
    ("rollback", "style/ink", "--channel", "stable"),
    ("rollback", "style/ink@v1.0.0"),
    ("access", "grant", "style/ink", "bob", "--purpose", "trailer"),
    ("access", "revoke", "style/ink", "bob"),
    ("revoke", "style/wash", "--reason", "a test", "--yes"),
    ("gc", "--yes"),
    ("policy", "sign", "--yes"),
    ("compose", "style/ink:0.5+style/wash:0.5", "--as", "pair"),
    ("compose", "upgrade", "recipe/duo"),
)
SLOW: tuple[tuple[str, ...], ...] = (
    ("doctor",),
    ("export", "style/ink", "--format", "kohya", "--out", "exported.safetensors"),
    ("generate", "style/ink@v9.9.9+style/wash", "--prompt", "zzink"),
    ("publish", "style/ink@v1.0.1", "--dry-run"),
)
"""They import torch or the Hub's client: ten seconds, so only in the long run."""
COMMANDS = READING + WRITING + (SLOW if REPEATS else ())


@dataclass
class Counts:
    """What was tried, for the line at the end."""

    name: str
    seed: int
    cases: int = 0
    commands: Counter[int] = field(default_factory=Counter)
    slowest: tuple[float, str] = (0.0, "")
    failures: list[str] = field(default_factory=list)

    def attempt(self, place: Place, what: str, arguments: Sequence[str]) -> Answer:
        """Run a command in a hostile place and keep what it may not do."""
        before, start = place.surroundings(), time.monotonic()
        answer = place.run(*arguments)
        taken = time.monotonic() - start
        self.slowest = max(self.slowest, (taken, f"{' '.join(arguments)} after {what}"))
        self.commands[answer.code] += 1
        problems = answer.problems()
        if place.surroundings() != before:
            problems.append(f"{' '.join(arguments)}: changed what is outside of the registry")
        self.failures += [f"{what}: {problem}" for problem in problems]
        return answer

    def report(self) -> None:
        """Print the counts, and fail if anything did."""
        codes = (f"{count} ended with {code}" for code, count in sorted(self.commands.items()))
        total = sum(self.commands.values())
        sys.stdout.write(
            f"\n{self.name}: seed {self.seed}, {self.cases} cases, {total} commands "
            f"({', '.join(codes)}), {len(self.failures)} failures, slowest "
            f"{self.slowest[0]:.1f} s ({self.slowest[1]})\n"
            + "".join(f"{failure}\n" for failure in dict.fromkeys(self.failures[:60]))
        )
        assert not self.failures, f"seed {self.seed}: {len(self.failures)} failures, see above"


def dice(name: str) -> tuple[int, random.Random]:
    """A seed that is the same every day; a long run begins elsewhere if it is told to."""
    seed = int(os.environ.get("LORAREG_FAULTS_SEED", "6"))
    return seed, random.Random(f"{name} {seed}")
