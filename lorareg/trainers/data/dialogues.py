"""Dialogue datasets: one ``.jsonl`` file, or a folder of them -> records. No torch here.

Every problem of every file is collected first and raised once, so that a dataset is mended in one
round. Files are read line by line; nothing is written next to them.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lorareg.errors import InvalidFileError, NotFoundError, listed
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


@dataclass
class _Findings:
    """What reading gave so far."""

    records: list[DialogueRecord] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    recode: dict[str, str] = field(default_factory=dict)  # file name -> encoding it seems to have


def read_dialogues(path: Path) -> tuple[DialogueRecord, ...]:
    """Read every dialogue of a file, or of all ``*.jsonl`` under a folder, in order of name.

    Blank lines are skipped, a byte-order mark is dropped, names starting with a dot are passed by.

    Raises:
        NotFoundError: there is nothing at ``path``.
        InvalidFileError: lists every row that cannot be used, by file and line; or the dataset is
            empty.
    """
    findings = _Findings()
    for name, file in _files(path):
        _read_file(name, file, findings)
    if findings.problems:
        raise InvalidFileError(
            f"dataset {path.name}: {_counted(len(findings.problems))} to mend",
            why="\n" + listed(findings.problems),
            fix=_remedy(findings),
        )
    if not findings.records:
        raise InvalidFileError(
            f"dataset {path.name} is empty",
            why="it has no row but blank lines",
            fix='write one dialogue a line: {"prompt": "Who are you?", "completion": "Arr!"}',
        )
    return tuple(findings.records)


def _files(path: Path) -> list[tuple[str, Path]]:
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
    files = sorted(
        (_posix(relative.as_posix()), file)
        for relative, file in found
        if relative.suffix.lower() == ".jsonl"
        and not any(part.startswith(".") for part in relative.parts)
    )
    if not files:
        raise InvalidFileError(
            f"dataset {path.name}/ is empty",
            why="it holds no .jsonl file",
            fix="put the dialogues into a .jsonl file, one JSON object a line",
        )
    return files


def _posix(name: str) -> str:
    return unicodedata.normalize("NFC", name)  # macOS hands out NFD; ids must not depend on it


def _read_file(name: str, path: Path, findings: _Findings) -> None:
    undecoded: list[tuple[int, UnicodeDecodeError]] = []
    for number, line in _lines(path):
        place = f"{name}:{number}"
        if len(line) > MAX_LINE:
            findings.problems.append(f"{place}: longer than {MAX_LINE >> 20} MB; not read further")
            break
        try:
            text = line.decode()
            if text.strip():
                findings.records.append(DialogueRecord(place, read_row(json.loads(text))))
        except UnicodeDecodeError as error:
            undecoded.append((number, error))
        except json.JSONDecodeError as error:
            findings.problems.append(f"{place}: not JSON, column {error.colno}: {error.msg}")
        except RecursionError:
            findings.problems.append(f"{place}: not JSON anyone means: nested too deeply")
        except RowError as error:
            findings.problems.append(f"{place}: {error}")
        except ValueError as error:  # an integer of more than 4,300 digits
            findings.problems.append(f"{place}: not JSON: {error}")
    if undecoded:
        _note_encoding(name, undecoded, findings)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines, each cut off just above MAX_LINE; without a byte-order mark."""
    with path.open("rb") as stream:
        number = 1
        line = stream.readline(MAX_LINE + 1).removeprefix(b"\xef\xbb\xbf")
        while line:
            yield number, line
            number += 1
            line = stream.readline(MAX_LINE + 1)


def _note_encoding(
    name: str, undecoded: list[tuple[int, UnicodeDecodeError]], findings: _Findings
) -> None:
    """One problem for the file, not one for each of its thousand lines."""
    number, error = undecoded[0]
    guess = likely_encoding(b"".join(error.object for _, error in undecoded))
    reads_as = f"; reads as {guess}" if guess else ""
    more = f" (and {len(undecoded) - 1} more lines)" if len(undecoded) > 1 else ""
    byte = error.object[error.start]
    findings.problems.append(f"{name}:{number}: not UTF-8, byte 0x{byte:02x}{reads_as}{more}")
    if guess:
        findings.recode[name] = guess


def likely_encoding(data: bytes) -> str | None:
    """Name the encoding that bytes which are no UTF-8 probably have, as iconv calls it.

    The bytes of Windows-1252's ``it’s`` are valid GBK too, as a character nobody uses; so GBK is
    named only where most of the characters are among the 7,445 common ones of GB 2312.

    >>> likely_encoding("你好，船长".encode("gbk")), likely_encoding("it’s".encode("cp1252"))
    ('GBK', 'WINDOWS-1252')
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    wide = [character for character in _decoded(data, "gb18030") if ord(character) > 127]
    if 2 * sum(bool(_encoded(character, "gb2312")) for character in wide) > len(wide):
        return "GBK"
    return "WINDOWS-1252" if _decoded(data, "cp1252") else None


def _decoded(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return ""


def _encoded(text: str, encoding: str) -> bytes:
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:
        return b""


def _remedy(findings: _Findings) -> str:
    if not findings.recode:
        return "correct or delete these rows; the training needs every one of them to be right"
    name, guess = next(iter(findings.recode.items()))
    return (
        f"iconv -f {guess} -t UTF-8 {name} > utf8.tmp && mv utf8.tmp {name}"
        "; then correct or delete the other rows, if any"
    )


def _counted(count: int) -> str:
    return "1 problem" if count == 1 else f"{count} problems"
