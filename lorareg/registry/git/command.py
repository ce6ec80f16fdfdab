"""One git command: captured, never prompting, repeated while another git holds its lock."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lorareg.errors import ExternalToolError, listed

ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_EDITOR": "true",
    "GIT_MERGE_AUTOEDIT": "no",
    "GIT_OPTIONAL_LOCKS": "0",  # a status here must not make a commit elsewhere fail
}
LOCKED = re.compile(
    r"Unable to create '(.*\.lock)': File exists|cannot lock ref 'HEAD'(?!: Unable to create)"
)
LOCK_FILE = re.compile(r"Unable to create '(.*\.lock)': File exists")
NO_COMMANDS_IN_URLS = ("-c", "protocol.ext.allow=never")
LOCK_SECONDS = 10.0  # how long others may hold the index


@dataclass(frozen=True)
class Answer:
    """What a git command gave back."""

    command: str
    status: int
    output: bytes
    error: str

    @property
    def text(self) -> str:
        """The output; bytes of a file name that are not UTF-8 survive."""
        return self.output.decode("utf-8", "surrogateescape")

    @property
    def line(self) -> str:
        """The output of a command that answers with one line."""
        return self.text.strip()

    @property
    def named(self) -> list[str]:
        """What git lists below its message, each after a tab: files, or a command to run."""
        return [line.strip() for line in self.error.splitlines() if line.startswith("\t")]

    @property
    def last_words(self) -> str:
        """Git's own reason, without passwords in addresses."""
        lines = [line.strip() for line in self.error.splitlines() if line.strip()]
        reasons = [line for line in lines if line.startswith(("fatal:", "error:"))]
        reasons = [line for line in lines if line.startswith("! [")] or reasons or lines
        words = reasons[-1] if reasons else f"it ended with status {self.status}"
        if self.named:
            words += "\n" + listed(self.named)
        return re.sub(r"://[^/@\s]+@", "://***@", words)

    def must_succeed(self) -> Answer:
        """Return self.

        Raises:
            ExternalToolError: git said no; ``why`` is its own reason.
        """
        if self.status == 0:
            return self
        lock = LOCK_FILE.search(self.error)
        fix = f"wait for the other git to end; if none runs: rm '{lock[1]}'" if lock else ""
        raise ExternalToolError(
            f"git {self.command} failed",
            why=self.last_words,
            fix=fix or "mend what git names, then run this again",
        )


def call(
    folder: Path,
    arguments: Sequence[str],
    patience: float | None = None,
    stdin: BinaryIO | None = None,
) -> Answer:
    """Run git in a folder.

    Args:
        folder: where; it must exist.
        arguments: of git; never a shell's.
        patience: seconds to repeat it while another process holds git's lock; default
            ``LOCK_SECONDS``.
        stdin: a file that git reads; by default there is nothing to read.

    Raises:
        ExternalToolError: git is not installed.
    """
    try:
        import git
    except ImportError as missing:  # GitPython looks for git when it is imported
        raise ExternalToolError(
            "git cannot be run",
            why=str(missing).splitlines()[0],
            fix="install it: https://git-scm.com/downloads",
        ) from missing
    give_up = time.monotonic() + (LOCK_SECONDS if patience is None else patience)
    while True:
        status, output, error = git.Git(str(folder)).execute(
            ["git", *arguments],
            with_extended_output=True,
            with_exceptions=False,
            stdout_as_string=False,
            strip_newline_in_stdout=False,
            env=ENVIRONMENT,
            istream=stdin,
        )
        if status == 0 or not LOCKED.search(error) or time.monotonic() > give_up:
            verb = next(word for word in arguments if word != "-c" and "=" not in word)
            return Answer(verb, status, output, error)
        time.sleep(0.05)
