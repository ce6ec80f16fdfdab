"""The result of checking a dataset, and remembering it by content."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorareg.errors import LoraregError
from lorareg.registry.files import write_atomically
from lorareg.trainers.data.check.findings import SEVERITIES, Finding, ordered


@dataclass(frozen=True)
class Report:
    """Everything a check found.

    Attributes:
        task: what the dataset is for.
        records: pictures or dialogues.
        statistics: JSON for the card (``check.statistics``).
        coverage: a row a term of the vocabulary; empty without one.
    """

    dataset: str
    task: str
    records: int
    findings: Sequence[Finding]
    statistics: Mapping[str, Any] = field(default_factory=dict)
    coverage: Sequence[Mapping[str, Any]] = ()

    @property
    def errors(self) -> list[Finding]:
        """What training refuses."""
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def summary(self) -> str:
        """One line: "48 pictures: 1 error, 2 warnings"."""
        counts = Counter(finding.severity for finding in self.findings)
        words = [
            f"{counts[name]} {name}{'s' * (counts[name] > 1)}"
            for name in SEVERITIES
            if counts[name]
        ]
        unit = "picture" if self.task == "text-to-image" else "dialogue"
        return f"{self.records} {unit}{'s' * (self.records != 1)}: {', '.join(words) or 'good'}"

    @property
    def warned(self) -> str:
        """What does not stop a training run, in one line: "2 blurry, 1 near-duplicate"."""
        counts = Counter(f.code for f in self.findings if f.severity == "warning")
        return ", ".join(f"{count} {code}" for code, count in sorted(counts.items()))

    def document(self) -> dict[str, Any]:
        """As ``--json`` prints it, findings in order."""
        return {
            "dataset": self.dataset,
            "task": self.task,
            "records": self.records,
            "ok": not self.errors,
            "findings": [finding.document() for finding in ordered(self.findings)],
            "coverage": [dict(row) for row in self.coverage],
            "statistics": dict(self.statistics),
        }


def recall(path: Path, dataset: str) -> Report | None:
    """A report written before, or None; a damaged one is as good as none."""
    try:
        known = json.loads(path.read_bytes())
        return Report(
            dataset=dataset,
            task=known["task"],
            records=known["records"],
            findings=[
                Finding(f["code"], f["severity"], tuple(f["files"]), f["why"], f["fix"])
                for f in known["findings"]
            ],
            statistics=known["statistics"],
            coverage=known["coverage"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(path: Path, report: Report) -> None:
    """Keep a report; what cannot be kept is checked again next time."""
    with suppress(LoraregError, OSError):
        write_atomically(path, json.dumps(report.document(), ensure_ascii=False))
