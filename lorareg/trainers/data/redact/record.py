"""The record beside a redacted file: what was removed, by which rules; never what it was.

``train`` believes a file by it. It guards against mistakes, such as a redacted file that somebody
added rows to afterwards; it is no proof against somebody who wants to deceive.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from lorareg.errors import LoraregError, NotFoundError
from lorareg.registry.files import read_utf8, write_atomically
from lorareg.registry.schema import Strict, check
from lorareg.trainers.data.caption_files import on_disk

RULES = 1
"""Version of the recognisers: raised whenever they find more or other things."""
SUFFIX = ".redaction.json"
MAX_BYTES = 1 << 20
ENGINES = ("rjieba", "python-stdnum")  # the libraries that recognise together with our rules


class Redaction(Strict):
    """``<stem>.redaction.json``.

    Attributes:
        source: digest of the file that was redacted.
        output: digest of the file beside this one.
        rows: how many rows both have.
        touched: rows in which something was replaced.
        replaced: kind -> how many pieces of it were replaced.
        rules: version of the recognisers, ``RULES``.
        engines: library -> version.
    """

    schema_: Annotated[Literal["lorareg/redaction/1"], Field(alias="schema")]
    source: str
    output: str
    rows: Annotated[int, Field(ge=0)]
    touched: Annotated[int, Field(ge=0)]
    replaced: dict[str, int]
    rules: Annotated[int, Field(ge=1)]
    engines: dict[str, str]


def path_of(file: Path) -> Path:
    """Where the record of a .jsonl file is."""
    return file.with_name(file.stem + SUFFIX)


def engines() -> dict[str, str]:
    """Versions of the libraries in use."""
    return {name: version(name) for name in ENGINES}


def write(file: Path, record: Redaction) -> None:
    """Put the record of ``file`` beside it."""
    text = json.dumps(record.model_dump(by_alias=True), ensure_ascii=False, indent=2)
    write_atomically(path_of(file), text + "\n")


def read(file: Path) -> Redaction:
    """The record of a .jsonl file.

    Raises:
        NotFoundError: there is none.
        InvalidFileError: it is broken.
    """
    path = path_of(file)
    text = read_utf8(path, max_bytes=MAX_BYTES)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    return check(Redaction, document, path.name, fix="redact the dataset again")


def unredacted(path: Path, files: Mapping[str, str]) -> dict[str, str]:
    """Files of a dataset that did not come out of ``lorareg data redact`` as they are, and why.

    Args:
        path: the dataset, a folder or one .jsonl file.
        files: name within the dataset -> digest (``Listing.files``).
    """
    rows = {name: sha256 for name, sha256 in files.items() if name.lower().endswith(".jsonl")}
    problems = {
        name: _unlike(path if path.is_file() else on_disk(path, name), sha256)
        for name, sha256 in rows.items()
    }
    return {name: why for name, why in problems.items() if why}


def _unlike(file: Path, sha256: str) -> str:
    try:
        return "" if read(file).output == sha256 else "changed since it was redacted"
    except NotFoundError:
        return f"has no {path_of(file).name} beside it"
    except LoraregError as error:
        return error.sentence
