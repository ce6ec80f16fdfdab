"""What a check of a dataset says: findings, each with its files, its measure and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One problem of one file or of a few that share it.

    Attributes:
        code: the kind of problem, a slug: "near-duplicate"; those of one code are shown together.
        severity: "error": training refuses; "warning": it trains, and the result will suffer;
            "note": worth knowing, nothing to mend.
        files: names within the dataset; rows as "train.jsonl:12". Empty: the dataset as a whole.
        why: what was found against what is expected: "sharpness 3.1, below 12".
        fix: what to do, the same words for every finding of a code where possible.
    """

    code: str
    severity: Severity
    files: tuple[str, ...]
    why: str
    fix: str

    def document(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "code": self.code,
            "severity": self.severity,
            "files": list(self.files),
            "why": self.why,
            "fix": self.fix,
        }


def ordered(findings: Sequence[Finding]) -> list[Finding]:
    """Errors first, then by code and files."""
    return sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), f.code, f.files, f.why))
