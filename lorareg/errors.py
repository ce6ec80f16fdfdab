"""Every error a person can cause, each in three short lines: what, why, fix.

LoraregError                 the answer is no, and here is what to do (exit status 2)
├── NotFoundError            a name that leads nowhere
├── InvalidFileError         a file that is broken, hostile or not what it should be
├── IntegrityError           bytes that are not the bytes a lock promises
├── ExternalToolError        git, DVC or the Hub said no
└── TrainingError            a run that cannot start or go on
    └── InterruptedTrainingError   a run stopped on request; it can be resumed (exit status 130)
"""

from __future__ import annotations

from collections.abc import Sequence


class LoraregError(Exception):
    """A refusal that names its cause and its remedy.

    Attributes:
        what: which asset, file, line or value is wrong.
        why: what was expected against what was found.
        fix: what to do next, preferably a command to paste.
    """

    exit_code = 2

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.what]
        if self.why:
            lines.append(f"why: {self.why}")
        if self.fix:
            lines.append(f"fix: {self.fix}")
        return "\n".join(lines)

    @property
    def sentence(self) -> str:
        r"""What and why in one line, for lists.

        >>> LoraregError("a.yaml has 2 problems", why="\n  - no b\n  - no c").sentence
        'a.yaml has 2 problems: no b; no c'
        """
        lines = [line.strip().removeprefix("- ") for line in self.why.splitlines()]
        why = "; ".join(line for line in lines if line)
        return f"{self.what}: {why}" if why else self.what


class NotFoundError(LoraregError):
    """A reference, file or key that does not exist."""


class InvalidFileError(LoraregError):
    """A file that cannot be read as what it claims to be."""


class IntegrityError(LoraregError):
    """Bytes that do not match the digest recorded for them."""


class ExternalToolError(LoraregError):
    """Git, DVC or the Hub failed; ``why`` holds its own words."""


class TrainingError(LoraregError):
    """A training run that cannot start or cannot go on."""


class InterruptedTrainingError(TrainingError):
    """A run stopped by a signal after its state was saved."""

    exit_code = 130


def listed(problems: Sequence[str], *, limit: int = 20) -> str:
    """Join problems one a line, and say how many were left out.

    >>> print(listed(["a", "b", "c"], limit=2))
      - a
      - b
      ... and 1 more
    """
    lines = [f"  - {problem}" for problem in problems[:limit]]
    if len(problems) > limit:
        lines.append(f"  ... and {len(problems) - limit} more")
    return "\n".join(lines)
