"""Redacting a dataset: one .jsonl file to another, or a folder of them to a new folder.

Nothing is written unless every row can be read, and the source is never touched. Rows go through
one by one, so memory does not grow with the dataset. No message of this module holds a value.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from lorareg.errors import LoraregError
from lorareg.registry import digest
from lorareg.registry.files import replaced_atomically, sync_folder
from lorareg.trainers.data import dialogues
from lorareg.trainers.data.dialogues import Problem, Row
from lorareg.trainers.data.redact import record
from lorareg.trainers.data.redact.record import Redaction
from lorareg.trainers.data.redact.rows import PLAIN_KEYS, keys_with_personal_data, redact_row

Stage = Callable[[str, int, int], None]


@dataclass
class Report:
    """What was done; counts only.

    Attributes:
        rows: rows read and written.
        touched: rows in which something was replaced.
        replaced: kind -> pieces replaced.
        files: names of the files written.
        left_out: names of files of a folder that are no .jsonl and were not copied.
    """

    rows: int = 0
    touched: int = 0
    replaced: Counter[str] = field(default_factory=Counter)
    files: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def redact_dataset(source: Path, out: Path, stage: Stage) -> Report:
    """Write a dataset without personal data, and the record of each of its files.

    Args:
        source: a .jsonl file, or a folder of them.
        out: where to write; a file for a file, a folder for a folder; nothing may be there.
        stage: told what is being done, how many rows are done, and of how many.

    Raises:
        NotFoundError: there is nothing at ``source``.
        InvalidFileError: lists every row that cannot be read; nothing was written.
        LoraregError: ``out`` cannot be used.
    """
    files = dialogues.files(source)
    _check_out(source, out)
    total = _check_rows(source, files, stage)
    report = Report(left_out=_left_out(source, files))
    if source.is_file():
        _redact_file(files[0][1], files[0][0], out, report, total, stage)
        report.files.append(out.name)
        return report
    partial = out.with_name(f".{out.name}.{secrets.token_hex(8)}.tmp")
    try:
        for name, file in files:
            _redact_file(file, name, partial / name, report, total, stage)
            report.files.append(name)
        partial.rename(out)
        sync_folder(out.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return report


def _check_out(source: Path, out: Path) -> None:
    if source.is_file() and out.suffix.lower() != ".jsonl":
        raise LoraregError(
            f"--out {out.name} is no .jsonl file",
            why=f"{source.name} is one, so the redacted rows go to one",
            fix=f"--out {source.stem}.redacted.jsonl",
        )
    here, there = source.resolve(), out.resolve()
    if there == here or here in there.parents or there in here.parents:
        raise LoraregError(
            f"--out {out.name} is the dataset itself, or inside it, or around it",
            why="the original is never changed",
            fix=f"--out {here.parent / (here.stem + '-redacted')}{here.suffix}",
        )
    taken = next((path for path in (out, record.path_of(out)) if path.exists()), None)
    if taken and (taken == out or source.is_file()):
        raise LoraregError(
            f"there is already a {taken.name}",
            why="redaction never writes over anything",
            fix=f"name another --out, or remove it: rm -r {out}",
        )


def _check_rows(source: Path, files: list[tuple[str, Path]], stage: Stage) -> int:
    """How many rows there are; refuses a dataset with a row that cannot be read."""
    problems: list[Problem] = []
    rows = 0
    for name, file in files:
        for found in dialogues.rows(name, file):
            if isinstance(found, Problem):
                problems.append(replace(found, reason=_without_values(found.reason)))
                continue
            rows += 1
            if rows % 1000 == 0:
                stage("reading", rows, rows)
            problems.extend(_problem_of_keys(name, found))
    dialogues.refuse(source.name, problems, rows)
    return rows


def _problem_of_keys(name: str, row: Row) -> list[Problem]:
    kinds = sorted(set(keys_with_personal_data(row.value)))
    if not kinds:
        return []
    reason = f"a key of the row holds personal data ({', '.join(kinds)}); rename the key"
    return [Problem(name, int(row.id.rpartition(":")[2]), "personal-key", reason)]


def _without_values(reason: str) -> str:
    """The reason without what it quotes from the data: a role or a key may be a name."""
    return re.sub(
        r"'([^']*)'|\"([^\"]*)\"",
        lambda quoted: quoted[0] if quoted[0][1:-1] in PLAIN_KEYS else "(not shown)",
        reason,
    )


def _redact_file(
    file: Path, name: str, out: Path, report: Report, total: int, stage: Stage
) -> None:
    before = digest.of_file(file)
    own = Report()
    with replaced_atomically(out) as stream:
        for row in dialogues.rows(name, file):
            if isinstance(row, Problem):
                raise LoraregError(
                    f"{row.place} changed while it was read",
                    fix="run the command again when nothing else writes to the dataset",
                )
            changed, replaced = redact_row(row.value)
            stream.write(json.dumps(changed, ensure_ascii=False).encode() + b"\n")
            own.rows += 1
            own.touched += bool(replaced)
            own.replaced.update(replaced)
            stage("redacting", report.rows + own.rows, total)
    if digest.of_file(file) != before:
        out.unlink()
        raise LoraregError(
            f"{name} changed while it was read",
            fix="run the command again when nothing else writes to the dataset",
        )
    record.write(out, _record(before, digest.of_file(out), own))
    report.rows += own.rows
    report.touched += own.touched
    report.replaced.update(own.replaced)


def _record(source: str, output: str, done: Report) -> Redaction:
    document = {
        "schema": "lorareg/redaction/1",
        "source": source,
        "output": output,
        "rows": done.rows,
        "touched": done.touched,
        "replaced": dict(sorted(done.replaced.items())),
        "rules": record.RULES,
        "engines": record.engines(),
    }
    return Redaction.model_validate(document)


def _left_out(source: Path, files: list[tuple[str, Path]]) -> list[str]:
    if source.is_file():
        return []
    taken = {file for _, file in files}
    return sorted(
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file()
        and path not in taken
        and not path.name.startswith(".")
        and not path.name.endswith(record.SUFFIX)
    )
