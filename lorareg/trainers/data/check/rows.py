"""Everything that can be wrong with the rows of a dialogue dataset, found at once."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorareg.trainers.data import dialogues
from lorareg.trainers.data.check import languages, lengths, personal_data, turns
from lorareg.trainers.data.check.findings import Finding
from lorareg.trainers.data.check.lengths import Encode
from lorareg.trainers.data.dialogues import DialogueRecord, Problem

Stage = Callable[[str, int, int], None]

FIXES = {
    "line-too-long": "put every dialogue on a line of its own",
    "not-utf8": "save the file as UTF-8",
    "nul-bytes": "save the file as UTF-8, without NUL bytes",
    "not-json": "correct the row, or delete it",
    "unknown-shape": 'write it as {"messages": [{"role": "user", "content": ...}, ...]}',
    "no-response": "answer the question, or delete the row",
    "wrong-order": "let user and assistant speak in turn, the user first",
}
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
    max_length: int,
    held_out: Callable[[Sequence[str]], Collection[str]],
    stage: Stage,
) -> Checked:
    """Check every row of a .jsonl file, or of a folder of them.

    Args:
        path: the dataset.
        encode: ``Chat.rows`` of the base; None leaves out what needs tokens.
        max_length: tokens of a sequence that training keeps.
        held_out: which of all records are only measured on. It is not asked while rows are to be
            mended, since the split will be another one then.
        stage: told what is being done, how much of it, and of how much.

    Raises:
        NotFoundError: there is nothing at ``path``.
        InvalidFileError: it is no .jsonl file and no folder with one.
    """
    reading = dialogues.read_leniently(path)
    records = reading.records
    aside = () if reading.problems or not records else held_out([each.id for each in records])
    counted = lengths.measure(records, encode, max_length, stage)
    findings = (
        *map(_of_problem, reading.problems),
        *_emptiness(path, reading),
        *_odd_characters(records),
        *counted.findings,
        *turns.findings(records, aside, stage),
        *languages.findings(records),
        *personal_data.findings(path, records, stage),
    )
    answers = {
        each.id: sum(message.role == "assistant" for message in each.messages) for each in records
    }
    return Checked(records, counted.tokens, answers, languages.of_answers(records), findings)


def _of_problem(problem: Problem) -> Finding:
    fix = FIXES[problem.code]
    if problem.encoding:
        name = shlex.quote(problem.file)
        fix = f"iconv -f {problem.encoding} -t UTF-8 {name} > utf8.tmp && mv utf8.tmp {name}"
    return Finding(problem.code, "error", (problem.place,), problem.reason, fix)


def _emptiness(path: Path, reading: dialogues.Reading) -> Iterator[Finding]:
    if not reading.records and not reading.problems:
        fix = 'write one dialogue a line: {"prompt": "Who are you?", "completion": "Arr!"}'
        yield Finding("empty", "error", (path.name,), "it has no row but blank lines", fix)


def _odd_characters(records: Sequence[DialogueRecord]) -> Iterator[Finding]:
    for record in records:
        odd = {hit for message in record.messages for hit in _ODD.findall(message.content)}
        if odd:
            shown = ", ".join(f"U+{ord(character):04X}" for character in sorted(odd))
            why = f"holds {shown}: bytes were lost or read in the wrong encoding"
            fix = "correct the text from its source"
            yield Finding("odd-characters", "warning", (record.id,), why, fix)
