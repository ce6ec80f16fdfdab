"""Checking a dataset of dialogues with the base's own tokenizer and chat template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lorareg.errors import LoraregError
from lorareg.registry.dataset import Listing
from lorareg.trainers.data.check import lengths, rows, statistics
from lorareg.trainers.data.check.findings import Finding
from lorareg.trainers.data.check.lengths import Encode, Limit
from lorareg.trainers.data.check.place import Place, Stage
from lorareg.trainers.data.check.report import Report
from lorareg.trainers.data.check.wishes import Wishes
from lorareg.trainers.data.dialogues import DialogueRecord

PROMPT = 200  # letters of a system prompt that statistics keep
NO_BASE = (
    "tokens, truncation and control tokens of a base are not checked: "
    "name one with --base, or an adapter"
)


def check(place: Place, listing: Listing, wishes: Wishes, stage: Stage) -> Report:
    """Every finding on rows and turns, and statistics."""
    encode, notes = _encode(place, wishes)
    found = rows.check(
        place.path,
        encode=encode,
        limit=Limit(wishes.max_length, wishes.overlong),
        pairs=wishes.pairs,
        held_out=wishes.held_out,
        stage=stage,
    )
    return Report(
        dataset=place.name,
        task=wishes.task,
        records=len(found.records),
        findings=[*found.findings, *notes],
        statistics=statistics.of_dialogues(
            list(found.tokens.values()),
            list(found.answers.values()),
            spoken={
                "system_prompts": _system_prompts(found.records),
                "scripts": found.scripts,
            },
        ),
    )


def _system_prompts(records: Sequence[DialogueRecord]) -> dict[str, int]:
    """System prompt, its beginning if it is long -> dialogues that begin with it."""
    return Counter(
        record.messages[0].content.strip()[:PROMPT]
        for record in records
        if record.messages and record.messages[0].role == "system"
    )


def _encode(place: Place, wishes: Wishes) -> tuple[Encode | None, list[Finding]]:
    """How the base reads a dialogue; a note if there is none or its tokenizer cannot be had."""
    if wishes.base is None:
        return None, [Finding("uncounted", "note", (), NO_BASE, "")]
    try:
        return lengths.chat(wishes.base, place.cache).sequences, []
    except LoraregError as error:
        why = f"nothing is counted in tokens: {error.what}; {error.why}"
        return None, [Finding("uncounted", "note", (), why, error.fix)]
