"""Dialogue datasets: one ``.jsonl`` file, or a folder of them -> records. No torch here.

Every problem of every file is collected first and raised once, so that a dataset is mended in one
round. Files are read line by line; nothing is written next to them.
"""

from __future__ import annotations

import codecs
import json
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorareg.errors import InvalidFileError, NotFoundError, listed
from lorareg.trainers.data.dialogue_encoding import ForeignLines
from lorareg.trainers.data.dialogue_rows import Message, RowError, read_row

MAX_LINE = 16 << 20  # bytes; a longer line is no dialogue but a file without line ends


@dataclass(frozen=True)
class DialogueRecord:
    """One dialogue to learn from.

    Attributes:
        id: file and line, "train.jsonl:12"; the name of the record in every message and draw.
        messages: alternating, the last one the assistant's.
    """

    id: str
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Row:
    """A row that can be used, as it stands in its file.

    Attributes:
        id: file and line.
        value: the parsed object, with all its keys.
        messages: what it says.
    """

    id: str
    value: dict[str, Any]
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Problem:
    """A row that cannot be used; ``str`` gives the sentence for people.

    Attributes:
        file: name within the dataset.
        line: from 1.
        code: "line-too-long", "not-utf8", "nul-bytes", "not-json", or a code of ``RowError``.
        reason: one line.
        encoding: what the file seems to be in instead of UTF-8, as iconv calls it.
    """

    file: str
    line: int
    code: str
    reason: str
    encoding: str | None = None

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"

    @property
    def place(self) -> str:
        """File and line, "train.jsonl:12"."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Reading:
    """All of a dataset: what can be used, and why the rest cannot."""

    records: tuple[DialogueRecord, ...]
    problems: tuple[Problem, ...]


def read_dialogues(path: Path) -> tuple[DialogueRecord, ...]:
    """Read every dialogue of a file, or of all ``*.jsonl`` under a folder, in order of name.

    Blank lines are skipped, a byte-order mark is dropped, names starting with a dot are passed by.

    Raises:
        NotFoundError: there is nothing at ``path``.
        InvalidFileError: lists every row that cannot be used, by file and line; or the dataset is
            empty.
    """
    reading = read_leniently(path)
    refuse(path.name, reading.problems, len(reading.records))
    return reading.records


def read_leniently(path: Path) -> Reading:
    """Read what can be read of a dataset; its problems are values, not an exception.

    Raises:
        NotFoundError: there is nothing at ``path``.
        InvalidFileError: it is no .jsonl file and no folder with one.
    """
    records, problems = [], []
    for name, file in files(path):
        for found in rows(name, file):
            if isinstance(found, Problem):
                problems.append(found)
            else:
                records.append(DialogueRecord(found.id, found.messages))
    return Reading(tuple(records), tuple(problems))


def refuse(name: str, problems: Sequence[Problem], records: int) -> None:
    """Raise all problems of a dataset at once, or that it is empty; else do nothing.

    Raises:
        InvalidFileError: there are problems, or no records.
    """
    if problems:
        raise InvalidFileError(
            f"dataset {name}: {_counted(len(problems))} to mend",
            why="\n" + listed([str(problem) for problem in problems]),
            fix=_remedy(problems),
        )
    if not records:
        raise InvalidFileError(
            f"dataset {name} is empty",
            why="it has no row but blank lines",
            fix='write one dialogue a line: {"prompt": "Who are you?", "completion": "Arr!"}',
        )


def files(path: Path) -> list[tuple[str, Path]]:
    """Name within the dataset, and path, of each of its files, in order of name.

    Raises:
        NotFoundError: there is nothing at ``path``.
        InvalidFileError: it is no .jsonl file and no folder with one.
    """
    if path.is_file():
        if path.suffix.lower() != ".jsonl":
            raise InvalidFileError(
                f"{path.name} is not a .jsonl file",
                why="a dialogue dataset has one JSON object a line",
                fix=f"jq -c '.[]' {path.name} > {path.stem}.jsonl",
            )
        return [(_posix(path.name), path)]
    if not path.is_dir():
        raise NotFoundError(
            f"there is no dataset at {path.name}",
            why="neither a file nor a folder is there",
            fix="run lorareg pull to fetch its bytes, or correct dataset.path",
        )
    found = [(file.relative_to(path), file) for file in path.rglob("*") if file.is_file()]
    chosen = sorted(
        (_posix(relative.as_posix()), file)
        for relative, file in found
        if relative.suffix.lower() == ".jsonl"
        and not any(part.startswith(".") for part in relative.parts)
    )
    if not chosen:
        raise InvalidFileError(
            f"dataset {path.name}/ is empty",
            why="it holds no .jsonl file",
            fix="put the dialogues into a .jsonl file, one JSON object a line",
        )
    return chosen


def _posix(name: str) -> str:
    return unicodedata.normalize("NFC", name)  # macOS hands out NFD; ids must not depend on it


def rows(name: str, path: Path) -> Iterator[Row | Problem]:
    """Rows and problems of one file, as they come; no more than a line is held at a time."""
    foreign = ForeignLines()
    for number, line in _lines(path):
        if len(line) > MAX_LINE:
            reason = f"longer than {MAX_LINE >> 20} MB; not read further"
            yield Problem(name, number, "line-too-long", reason)
            break
        if number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            foreign.take(number, line)
            break  # line ends are two bytes there; nothing behind the first can be told
        try:
            text = line.decode()
        except UnicodeDecodeError:
            foreign.take(number, line)
            continue
        if "\0" in text:
            foreign.take(number, line)
        elif text.strip():
            yield _row(name, number, text)
    for number, code, reason, encoding in foreign.problems():
        yield Problem(name, number, code, reason, encoding)


def _row(name: str, number: int, text: str) -> Row | Problem:
    try:
        value = json.loads(text)
        return Row(f"{name}:{number}", value, read_row(value))
    except json.JSONDecodeError as error:
        code, reason = "not-json", f"not JSON, column {error.colno}: {error.msg}"
    except RecursionError:
        code, reason = "not-json", "not JSON anyone means: nested too deeply"
    except RowError as error:
        code, reason = error.code, str(error)
    except ValueError as error:  # an integer of more than 4,300 digits
        code, reason = "not-json", f"not JSON: {error}"
    return Problem(name, number, code, reason)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines, each cut off just above MAX_LINE; without a byte-order mark."""
    with path.open("rb") as stream:
        number = 1
        line = stream.readline(MAX_LINE + 1).removeprefix(codecs.BOM_UTF8)
        while line:
            yield number, line
            number += 1
            line = stream.readline(MAX_LINE + 1)


def _remedy(problems: Iterable[Problem]) -> str:
    recode = next(((p.file, p.encoding) for p in problems if p.encoding), None)
    if not recode:
        return "correct or delete these rows; the training needs every one of them to be right"
    name, guess = recode
    return (
        f"iconv -f {guess} -t UTF-8 {name} > utf8.tmp && mv utf8.tmp {name}"
        "; then correct or delete the other rows, if any"
    )


def _counted(count: int) -> str:
    return "1 problem" if count == 1 else f"{count} problems"
