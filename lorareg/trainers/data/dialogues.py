"""Dialogue datasets: one ``.jsonl`` file, or a folder of them -> records. No torch here.

Every problem of every file is collected first and raised once, so that a dataset is mended in one
round. Files are read line by line; nothing is written next to them.
"""

from __future__ import annotations

import codecs
import json
import shlex
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorareg.errors import InvalidFileError, NotFoundError, listed
from lorareg.trainers.data.dialogue_encoding import ForeignLines
from lorareg.trainers.data.dialogue_rows import Message, RowError, read_row, unambiguous
from lorareg.trainers.data.preference_rows import is_pair, read_pair

MAX_LINE = 16 << 20  # bytes; a longer line is no dialogue but a file without line ends
SKIPPED = 1 << 20  # bytes of such a line that are read at a time
NAMED = 10  # lines of another encoding that are named
_JSON = json.JSONDecoder(object_pairs_hook=unambiguous)


@dataclass(frozen=True)
class DialogueRecord:
    """One dialogue to learn from.

    Attributes:
        id: file and line, "train.jsonl:12"; the name of the record in every message and draw.
        messages: alternating, the last one the assistant's.
        rejected: of a preference pair, the same dialogue with the answer to avoid at its end;
            empty otherwise.
    """

    id: str
    messages: tuple[Message, ...]
    rejected: tuple[Message, ...] = ()

    @property
    def said(self) -> tuple[Message, ...]:
        """Every message of the row, each once."""
        return (*self.messages, *self.rejected[-1:])


@dataclass(frozen=True)
class Row:
    """A row that can be used, as it stands in its file.

    Attributes:
        id: file and line.
        value: the parsed object, with all its keys.
        record: what it says.
    """

    id: str
    value: dict[str, Any]
    record: DialogueRecord


@dataclass(frozen=True)
class Problem:
    """A row that cannot be used; ``str`` gives the sentence for people.

    Attributes:
        file: name within the dataset.
        line: from 1.
        code: "line-too-long", "not-utf8", "nul-bytes", "not-json", or a code of ``RowError``.
        reason: one line, without a value of the row: it may be personal.
        encoding: what the file seems to be in instead of UTF-8, as iconv calls it.
        path: of the file, as a command can name it.
        lines: the first ten lines with this problem, where there are several.
        advice: what to do, where that depends on more than the code.
    """

    file: str
    line: int
    code: str
    reason: str
    encoding: str | None = None
    path: Path | None = None
    lines: tuple[int, ...] = ()
    advice: str | None = None

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"

    @property
    def place(self) -> str:
        """File and line, "train.jsonl:12"."""
        return f"{self.file}:{self.line}"

    @property
    def places(self) -> tuple[str, ...]:
        """File and line of all lines that are named."""
        return tuple(f"{self.file}:{line}" for line in self.lines or (self.line,))

    @property
    def recoding(self) -> str | None:
        """The command that writes the file anew as UTF-8, next to it; None if none is known."""
        if self.encoding is None:
            return None
        old = self.path or Path(self.file)
        new = old.with_suffix(".utf8.jsonl")
        return f"iconv -f {self.encoding} -t UTF-8 {_quoted(old)} > {_quoted(new)}"


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
                records.append(found.record)
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
                fix=f"jq -c '.[]' {_quoted(path)} > {_quoted(path.with_suffix('.jsonl'))}",
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


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _posix(name: str) -> str:
    return unicodedata.normalize("NFC", name)  # macOS hands out NFD; ids must not depend on it


def rows(name: str, path: Path) -> Iterator[Row | Problem]:
    """Rows and problems of one file, as they come; no more than a line is held at a time."""
    foreign = ForeignLines()
    numbers: dict[str, list[int]] = defaultdict(list)
    for number, line in _lines(path):
        if len(line) > MAX_LINE:
            reason = f"longer than {MAX_LINE >> 20} MB; passed over"
            yield Problem(name, number, "line-too-long", reason)
            continue
        if number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            foreign.take(number, line)
            break  # line ends are two bytes there; nothing behind the first can be told
        try:
            text = line.decode()
        except UnicodeDecodeError:
            foreign.take(number, line)
            _name(numbers["not-utf8"], number)
            continue
        if "\0" in text:
            foreign.take(number, line)
            _name(numbers["nul-bytes"], number)
        elif text.strip():
            yield _row(name, number, text)
    for number, code, reason, encoding in foreign.problems():
        lines = tuple(numbers[code])
        yield Problem(name, number, code, f"{reason}{_doubt(encoding)}", encoding, path, lines)


def _name(numbers: list[int], number: int) -> None:
    if len(numbers) < NAMED:
        numbers.append(number)


def _doubt(encoding: str | None) -> str:
    """What to see to before a file is replaced: an encoding is a guess, and Big5 passes for GBK."""
    if encoding is None:
        return ""
    perhaps = ", or perhaps Big5" if encoding == "GBK" else ""
    return f"{perhaps}; read the new file before it replaces this one"


def _row(name: str, number: int, text: str) -> Row | Problem:
    advice, place = None, f"{name}:{number}"
    try:
        # A row that is cut off ends there, not at column 1 of a line below.
        value = _JSON.decode(text.rstrip("\r\n"))
        return Row(place, value, _record(place, value))
    except json.JSONDecodeError as error:
        code, reason = "not-json", f"not JSON, column {error.colno}: {error.msg}"
    except RecursionError:
        code, reason = "not-json", "not JSON anyone means: nested too deeply"
    except RowError as error:
        code, reason, advice = error.code, str(error), error.fix
    except ValueError:  # an integer of more than 4,300 digits
        code, reason = "not-json", "not JSON anyone means: a number with thousands of digits"
    return Problem(name, number, code, reason, advice=advice)


def _record(place: str, value: object) -> DialogueRecord:
    if is_pair(value):
        return DialogueRecord(place, *read_pair(value))
    return DialogueRecord(place, read_row(value))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines, without a byte-order mark; of one above MAX_LINE no more than its head."""
    with path.open("rb") as stream:
        number = 1
        line = stream.readline(MAX_LINE + 1).removeprefix(codecs.BOM_UTF8)
        while line:
            yield number, line
            while len(line) > SKIPPED and not line.endswith(b"\n"):
                line = stream.readline(SKIPPED + 1)
            number += 1
            line = stream.readline(MAX_LINE + 1)


def _remedy(problems: Sequence[Problem]) -> str:
    correct = "correct or delete these rows; the training needs every one of them to be right"
    return next((problem.recoding for problem in problems if problem.recoding), correct)


def _counted(count: int) -> str:
    return "1 problem" if count == 1 else f"{count} problems"
