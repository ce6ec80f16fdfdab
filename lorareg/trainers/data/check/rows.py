"""Everything that can be wrong with the rows of a dialogue dataset, found at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorareg.trainers.data import dialogues
from lorareg.trainers.data.check import languages, lengths, personal_data, turns
from lorareg.trainers.data.check.findings import Finding
from lorareg.trainers.data.check.lengths import Encode, Limit
from lorareg.trainers.data.dialogue_rows import REWRITE
from lorareg.trainers.data.dialogues import DialogueRecord, Problem
from lorareg.trainers.data.preference_rows import PAIR, misfits, misfitting

Stage = Callable[[str, int, int], None]

FIXES = {
    "line-too-long": "put every dialogue on a line of its own",
    "not-utf8": "save the file as UTF-8",
    "nul-bytes": "save the file as UTF-8, without NUL bytes",
    "not-json": "correct the row, or delete it",
    "duplicate-key": "keep one of the two, or give one another name",
    "unknown-shape": REWRITE,
    "no-response": "answer the question, or delete the row",
    "wrong-order": "let user and assistant speak in turn, the user first",
    "no-preference": PAIR,
}
# Of the chat templates of ChatML, Llama 2 and 3, Mistral, Gemma and GPT-2.
_CONTROL = re.compile(
    r"<\|(?:im_start|im_end|im_sep|endoftext|begin_of_text|end_of_text|eot_id|eom_id|"
    r"start_header_id|end_header_id)\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>"
)
# Control characters that no keyboard types, and the mark that a decoder leaves for lost bytes.
_ODD = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffd]")


@dataclass(frozen=True)
class Checked:
    """Dialogues and what was found about them.

    Attributes:
        records: those that can be used.
        tokens: record -> tokens of its longest sequence, before any is cut off; empty if there is
            no tokenizer to count with.
        answers: record -> how often the assistant speaks.
        scripts: main script of the answers -> records.
        findings: in no special order.
    """

    records: tuple[DialogueRecord, ...]
    tokens: dict[str, int]
    answers: dict[str, int]
    scripts: dict[str, int]
    findings: tuple[Finding, ...]


def check(
    path: Path,
    *,
    encode: Encode | None,
    limit: Limit,
    pairs: bool | None = None,
    held_out: Callable[[Sequence[str]], Collection[str]],
    stage: Stage,
) -> Checked:
    """Check every row of a .jsonl file, or of a folder of them.

    Args:
        path: the dataset.
        encode: ``Chat.rows`` of the base; None leaves out what needs tokens.
        limit: tokens of a sequence that training keeps, and what becomes of longer ones.
        pairs: whether training learns from preference pairs; None if nobody knows.
        held_out: which of all records are only measured on. It is not asked while rows are to be
            mended, since the split will be another one then.
        stage: told what is being done, how much of it, and of how much.

    Raises:
        NotFoundError: there is nothing at ``path``.
        InvalidFileError: it is no .jsonl file and no folder with one.
    """
    reading = dialogues.read_leniently(path)
    records = reading.records
    counted = lengths.measure(records, encode, limit, stage)
    learned = [each.id for each in records if each.id not in counted.left_out]
    aside = () if reading.problems or not learned else held_out(learned)
    findings = (
        *map(_of_problem, reading.problems),
        *_emptiness(path, reading),
        *_misfits(records, pairs),
        *_odd_characters(records),
        *counted.findings,
        *_control_tokens(records, _refused(counted.findings)),
        *turns.findings(records, aside, stage),
        *languages.findings(records),
        *personal_data.findings(path, records, stage),
    )
    scripts = languages.of_answers(records)
    return Checked(records, counted.tokens, _answers(records), scripts, findings)


def _answers(records: Sequence[DialogueRecord]) -> dict[str, int]:
    return {each.id: sum(turn.role == "assistant" for turn in each.messages) for each in records}


def _of_problem(problem: Problem) -> Finding:
    fix = problem.recoding or problem.advice or FIXES[problem.code]
    return Finding(problem.code, "error", problem.places, problem.reason, fix)


def _emptiness(path: Path, reading: dialogues.Reading) -> Iterator[Finding]:
    if not reading.records and not reading.problems:
        fix = 'write one dialogue a line: {"prompt": "Who are you?", "completion": "Arr!"}'
        yield Finding("empty", "error", (path.name,), "it has no row but blank lines", fix)


def _misfits(records: Sequence[DialogueRecord], pairs: bool | None) -> Iterator[Finding]:
    if pairs is not None and (rows := misfits(records, pairs=pairs)):
        why, fix = misfitting(pairs)
        yield Finding("preferences", "error", rows, why, fix)


def _odd_characters(records: Sequence[DialogueRecord]) -> Iterator[Finding]:
    for record in records:
        odd = {hit for message in record.said for hit in _ODD.findall(message.content)}
        if odd:
            shown = ", ".join(f"U+{ord(character):04X}" for character in sorted(odd))
            why = f"holds {shown}: bytes were lost or read in the wrong encoding"
            fix = "correct the text from its source"
            yield Finding("odd-characters", "warning", (record.id,), why, fix)


def _refused(findings: Sequence[Finding]) -> set[str]:
    refused = (finding for finding in findings if finding.code == "refused-by-template")
    return {name for finding in refused for name in finding.files}


def _control_tokens(
    records: Sequence[DialogueRecord], refused: Collection[str]
) -> Iterator[Finding]:
    """Marks of common chat templates within messages, but for rows that the base refuses."""
    for record in records:
        marks = {hit for message in record.said for hit in _CONTROL.findall(message.content)}
        if marks and record.id not in refused:
            why = f"holds {', '.join(sorted(marks))}: a control token of common chat templates"
            fix = "take it out of the text: training writes those of the base itself"
            yield Finding("control-token", "warning", (record.id,), why, fix)
