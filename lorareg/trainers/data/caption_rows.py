"""Rows of caption files: CSV and JSON lines to captions, each bad line with its reason."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import shlex
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import InvalidFileError, LoraregError
from lorareg.registry.dataset import IMAGES, is_image

NAME_COLUMNS = (
    *("file_name", "filename", "file", "image", "img", "path"),
    *("文件名", "图片", "图像", "文件"),
)
TEXT_COLUMNS = (
    *("text", "caption", "prompt", "additional_feature"),
    *("描述", "标注", "提示词", "标签", "文本"),
)
ROW_FIX = 'write a line as img01.jpg,"the caption", or as {"file_name": ..., "text": ...}'
ODD_HEADER = "this line looks like a header; call the columns file_name,text"
HEADER_FIX = "name the columns in the first line: file_name,text"
# The first cell of a file is a name or the head of the column of names: what follows it separates.
SEPARATOR = re.compile(
    rf'\s*"?(?:{"|".join(NAME_COLUMNS)}|[^,;\t"\n]+(?:{"|".join(map(re.escape, IMAGES))}))"?'
    r"\s*?([;\t])",
    re.IGNORECASE,
)
NAME_IN_JSON = re.compile(rf'"(?:{"|".join(NAME_COLUMNS)})"\s*:\s*"([^"\\]+)"')


@dataclass(frozen=True)
class BadLine:
    """A line of a caption file that gives no caption.

    Attributes:
        number: of the line, from 1.
        name: the picture it seems to be about, if that can be told.
        fix: what to do.
    """

    number: int
    why: str
    name: str | None = None
    fix: str = ROW_FIX


@dataclass(frozen=True)
class CsvRow:
    """A row, the lines it is written in, and why it is none.

    Attributes:
        lines: numbers of its first and last line, from 1.
        written: these lines as they are, with their ends.
    """

    lines: tuple[int, int]
    cells: Sequence[str]
    written: str
    error: str = ""


def csv_rows(text: str, separator: str = ",") -> Iterator[CsvRow]:
    """Rows of a CSV; one that is broken has no cells, and reading goes on in the next line."""
    lines = list(io.StringIO(text, newline=""))
    reader = csv.reader(lines, skipinitialspace=True, strict=True, delimiter=separator)
    while (start := reader.line_num) < len(lines):
        cells, error = [], ""
        try:
            cells = next(reader)
        except csv.Error as problem:
            error = str(problem)
        end = reader.line_num
        yield CsvRow((start + 1, end), cells, "".join(lines[start:end]), error)


def caption_columns(first: Sequence[str]) -> tuple[tuple[int, int], bool]:
    """Which columns hold name and caption, and whether this row is a header."""
    names = [cell.strip().lower() for cell in first]
    name = next((names.index(n) for n in NAME_COLUMNS if n in names), None)
    text = next((names.index(n) for n in TEXT_COLUMNS if n in names), None)
    if name is None or text is None:
        return (0, 1), False
    return (name, text), True


def _is_odd_header(first: CsvRow, second: CsvRow | None) -> bool:
    """Whether the first row of a file names columns, in words that are not known here."""
    if second is None or not (len(first.cells) == len(second.cells) > 1):
        return False
    name = first.cells[0].strip()
    return bool(name) and not is_image(name) and is_image(second.cells[0].strip())


def picture_name(cell: str) -> str:
    """The name of a picture as listings have it: composed, with slashes, from the top."""
    return unicodedata.normalize("NFC", cell.strip()).replace("\\", "/").removeprefix("./")


def first_text(row: Mapping[str, object], names: Sequence[str]) -> tuple[str, str] | None:
    """The first of some keys that holds text, and the text."""
    return next(((n, v) for n in names if isinstance(v := row.get(n), str)), None)


class Reading:
    """One caption file while it is read."""

    def __init__(self, source: str, path: Path) -> None:
        self.table: dict[str, str] = {}
        self.bad: list[BadLine] = []
        self.faults: dict[str, LoraregError] = {}
        self.is_whole = True
        self._source, self._path = source, path

    def jsonl(self, text: str) -> None:
        """Take every line of a ``metadata.jsonl``."""
        # Not splitlines: a JSON string may hold U+2028 and other line ends of Unicode as they are.
        for number, line in enumerate(text.split("\n"), start=1):
            if not line.strip():
                continue
            about = picture_name(found[1]) if (found := NAME_IN_JSON.search(line)) else None
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                self.bad.append(BadLine(number, f"not JSON ({error})", about))
                continue
            name = first_text(row, NAME_COLUMNS) if isinstance(row, dict) else None
            caption = first_text(row, TEXT_COLUMNS) if isinstance(row, dict) else None
            if name is None or caption is None:
                self.bad.append(BadLine(number, "needs file_name and text", about))
            else:
                self._add(number, name[1], caption[1])

    def csv(self, text: str) -> None:
        """Take every row of a CSV, with or without a header."""
        separator = self._separator(text)
        filled = (
            row for row in csv_rows(text, separator) if row.error or any(map(str.strip, row.cells))
        )
        columns: tuple[int, int] | None = None
        width = 2
        for row, behind in itertools.pairwise(itertools.chain(filled, [None])):
            if row is None:
                continue
            if row.error:
                self._add_broken(row)
                continue
            if columns is None:
                columns, is_header = caption_columns(row.cells)
                if not is_header and _is_odd_header(row, behind):
                    self.bad.append(BadLine(row.lines[1], ODD_HEADER, fix=HEADER_FIX))
                    is_header = True
                if is_header:
                    width = len(row.cells)
                    continue
            if len(row.cells) != width:
                why = f"{len(row.cells)} columns; put the caption in double quotes"
                about = picture_name(row.cells[columns[0]]) if len(row.cells) > columns[0] else None
                self.bad.append(BadLine(row.lines[1], why, about))
                continue
            self._add(row.lines[1], row.cells[columns[0]], row.cells[columns[1]])

    def _separator(self, text: str) -> str:
        """A comma; another one is a fault, and used so that the rest can be checked too."""
        found = SEPARATOR.match(text)
        if not found:
            return ","
        separator = found.group(1)
        spoken = "semicolons" if separator == ";" else "tabs"
        name = shlex.quote(str(self._path))
        program = (
            "import csv,sys; csv.writer(sys.stdout, lineterminator=chr(10)).writerows("
            f"csv.reader(sys.stdin, delimiter=chr({ord(separator)})))"
        )
        self.faults[self._source] = InvalidFileError(
            f"{self._source} has {spoken} between its columns",
            why="a spreadsheet wrote it in the manner of its country; columns end with commas here",
            fix=f"convert it: PYTHONUTF8=1 python3 -c {shlex.quote(program)} < {name} > comma.tmp"
            f" && mv comma.tmp {name}",
        )
        return separator

    def _add_broken(self, row: CsvRow) -> None:
        start, end = row.lines
        about = picture_name(row.written.partition(",")[0].strip(' "'))
        why = row.error
        if "end of data" in row.error:  # the reader looked for the closing quote up to there
            why = f"a quote is opened and never closed; nothing from here to line {end} is read"
            self.is_whole = start == end
        elif "field larger" in row.error:
            why = (
                f"a caption longer than {csv.field_size_limit():,} characters; is a quote missing?"
            )
            self.is_whole = start == end
        self.bad.append(BadLine(start, why, about))

    def _add(self, line: int, name: str, caption: str) -> None:
        name = picture_name(name)
        if "\0" in name + caption:
            self.bad.append(BadLine(line, "it holds a NUL byte", name.replace("\0", "")))
        elif re.search("[\ud800-\udfff]", name + caption):
            why = r"half a character, such as \ud83d without its \ude00"
            self.bad.append(BadLine(line, why, name))
        elif name in self.table:
            self.bad.append(BadLine(line, f"{name} has a caption already", name))
        else:
            self.table[name] = caption
