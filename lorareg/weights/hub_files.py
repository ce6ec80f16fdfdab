"""Files of a repository on the Hub, taken at one commit and compared with what is listed there.

The client compares sizes only; here the bytes must be those that the Hub lists. Files that can run
code are never fetched.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from lorareg.errors import IntegrityError, InvalidFileError, LoraregError
from lorareg.registry.fields import PICKLES
from lorareg.registry.header import read_header
from lorareg.registry.publishing import files, repos
from lorareg.registry.publishing.repos import Remote
from lorareg.weights.formats import diffusers, peft

MAX_WEIGHTS = 4_000_000_000  # bytes
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_. -]*")
ENDING = ".safetensors"


@dataclass(frozen=True)
class Fetcher:
    """Takes files of a repository, each once.

    Attributes:
        there: the repository at one commit.
        folder: where they go.
    """

    there: Remote
    folder: Path
    taken: dict[str, Path] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        """Whether it is listed."""
        return name in self.there.files

    def file(self, name: str) -> Path:
        """A file with the very bytes that are listed.

        Raises:
            LoraregError: its name is no plain one, or it is too large to be what it says.
            IntegrityError: other bytes came, or none are listed.
            InvalidFileError: weights whose header lies.
        """
        if name not in self.taken:
            self.taken[name] = self._fetched(name)
        return self.taken[name]

    def text(self, name: str) -> str:
        """A small file as text; raises as ``file``."""
        return self.file(name).read_text("utf-8", "replace")

    def _fetched(self, name: str) -> Path:
        listed, repo = self.there.files.get(name), self.there.id
        if listed is None or not NAME.fullmatch(name):
            raise IntegrityError(
                f"{repo} promises a file {name[:80]!r}",
                why="it is not there" if listed is None else "it is not at the top",
                fix="ask whoever published it",
            )
        most = MAX_WEIGHTS if name.endswith(ENDING) else files.MAX_BYTES
        if listed.size > most:
            raise LoraregError(
                f"{name} in {repo} is too large",
                why=f"{listed.size} bytes; at most {most} are taken",
                fix=f"if you want it all the same: hf download {repo} {name}",
            )
        file = repos.download(repo, name, self.there.commit, self.folder)
        if not files.same(file, listed):
            named = f"sha256:{listed.sha256}" if listed.sha256 else f"git blob {listed.blob}"
            refuse(repo, name, files.sha256(file), named, "the Hub lists")
        if name.endswith(ENDING):
            read_header(file)
        return file


def refuse(repo: str, name: str, found: str, promised: str, who: str) -> None:
    """Refuse bytes that are not the promised ones.

    Raises:
        IntegrityError: always.
    """
    raise IntegrityError(
        f"{name} from {repo} is refused",
        why=f"it is {found}, and {who} {promised}",
        fix="nothing of it was put in place; ask whoever published it",
    )


def choose(there: Remote) -> list[str]:
    """Names of the files that are the adapter; of a PEFT folder weights and configuration.

    Raises:
        InvalidFileError: pickles only, or it is not clear which.
    """
    top = [name for name in there.files if "/" not in name]
    found = sorted(name for name in top if name.endswith(ENDING))
    if peft.WEIGHTS in found and peft.CONFIG in top:
        return [peft.WEIGHTS, peft.CONFIG]
    if diffusers.FILE in found:
        return [diffusers.FILE]
    if len(found) == 1:
        return found
    if found:
        raise InvalidFileError(
            f"{there.id} holds several adapters",
            why=", ".join(found[:20]),
            fix=f"fetch one: hf download {there.id} FILE; then: lorareg import FILE KIND/NAME",
        )
    pickles = sorted(n for n in there.files if PurePosixPath(n).suffix.lower() in PICKLES)
    if pickles:
        raise InvalidFileError(
            f"{there.id} is refused: {', '.join(pickles[:5])}",
            why=f"such files can run code when they are loaded, and there is no {ENDING}",
            fix=f"ask whoever published it for {ENDING}",
        )
    raise InvalidFileError(
        f"{there.id} holds no adapter",
        why=f"there is no {ENDING} at its top",
        fix="correct the name; a recipe without a merged file names its parts in recipe.json",
    )
