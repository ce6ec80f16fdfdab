"""What a run of ``lorareg data prepare`` did, in sentences."""

from __future__ import annotations

from collections import Counter

from lorareg.trainers.data.copies.prepare import Outcome


def sentences(outcome: Outcome) -> list[str]:
    """What people should know about the copies: only what is not nothing.

    Pictures left out are not in it, since each has its own sentence.
    """
    known = outcome.provenance
    copies = known.copies.values()
    stripped = Counter(trace for copy in copies for trace in copy.stripped)
    changes = Counter(change for copy in copies for change in copy.changes)
    looked = [copy for copy in copies if copy.faces is not None]
    kept = len(copies) - outcome.made
    said = [
        (kept, f"{kept} were there already"),
        (len(outcome.removed), f"{len(outcome.removed)} removed: their pictures are gone"),
        (stripped["GPS"], f"{stripped['GPS']} pictures said where they were taken (GPS); no copy"),
        (len(looked), _faces(sum(bool(copy.faces) for copy in looked), len(looked))),
        *((count, f"{count}: {change}") for change, count in sorted(changes.items())),
        (uncaptioned := sum(copy.caption is None for copy in copies), f"{uncaptioned} uncaptioned"),
        *((1, sentence) for sentence in _enlarged(outcome)),
    ]
    return [sentence for count, sentence in said if count]


def _faces(found: int, looked: int) -> str:
    rest = looked - found
    return f"{found} cut around a face, {rest} in the centre since none was found"


def _enlarged(outcome: Outcome) -> list[str]:
    enlarged = [copy for copy in outcome.provenance.copies.values() if copy.enlarged]
    if not enlarged:
        return []
    most = max(enlarged, key=lambda copy: copy.scale)
    return [f"{len(enlarged)} enlarged, {most.source} most: {most.scale:.2f} times"]
