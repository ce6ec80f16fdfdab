"""Rows with personal data, by kind and number; never the values."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lorareg.trainers.data.check.findings import Finding
from lorareg.trainers.data.dialogues import DialogueRecord

Stage = Callable[[str, int, int], None]


def findings(path: Path, records: Sequence[DialogueRecord], stage: Stage) -> Iterator[Finding]:
    """A warning for each row that holds personal data beyond doubt."""
    from lorareg.trainers.data.redact.personal import scan

    if path.name in {"", ".."}:  # "." has no name that another could be made of
        path = path.resolve()
    out = path.with_name(f"{path.stem}-redacted{path.suffix}")
    fix = f"lorareg data redact {shlex.quote(str(path))} --out {shlex.quote(str(out))}"
    for number, record in enumerate(records, start=1):
        kinds = sum((scan(message.content) for message in record.said), Counter[str]())
        if kinds:
            counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
            yield Finding("personal-data", "warning", (record.id,), counts, fix)
        stage("looking for personal data", number, len(records))
