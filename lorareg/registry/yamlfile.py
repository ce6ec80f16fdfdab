"""YAML that people write: read fast and strictly, edited without losing their comments.

A document is built from the parser's events, not by a YAML loader. Loaders follow YAML 1.1 (``no``
is false, ``010`` is 8), let aliases and tags through, and recurse: libyaml's crashes the process on
deep nesting.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from lorareg.errors import InvalidFileError, NotFoundError
from lorareg.registry.files import read_own, write_atomically

MAX_BYTES = 1_000_000
MAX_DEPTH = 32
MAX_NUMBER = 32  # characters; longer ones, like a commit of digits only, stay text

WORDS = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
INTEGER = re.compile(r"[-+]?[0-9]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        NotFoundError: there is no such file.
        InvalidFileError: not UTF-8, not YAML, not a mapping, a key twice, an alias or tag, too
            large or too deep.
    """
    if not path.is_file():
        raise NotFoundError(
            f"there is no {path.name} in {path.absolute().parent.name}/",
            why="it is a folder" if path.is_dir() else "",
            fix=f"write it, or restore it: git checkout -- {path.name}",
        )
    return parse(read_own(path, max_bytes=MAX_BYTES), path)


def parse(text: str, path: Path) -> dict[str, Any]:
    """Read a YAML mapping from text; errors name ``path``."""
    name = f"{path.parent.name}/{path.name}"
    try:
        document = _document(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise InvalidFileError(
            f"{name}{where} is not valid YAML",
            why=str(problem),
            fix="mend that line; indent with spaces, and quote text with : or { in it",
        ) from error
    if not isinstance(document, dict):
        raise InvalidFileError(f"{name} is not a YAML mapping", fix="write it as key: value")
    return document


def scalar(text: str) -> Any:
    """Read a value as the right-hand side of ``key: value``."""
    try:
        return _document(text)
    except yaml.YAMLError as error:
        raise InvalidFileError(f"{text!r} is not a YAML value", fix="quote it") from error


def as_scalar(text: str) -> str:
    """Write text as a value: as it is where it reads back the same, else in quotes.

    >>> as_scalar("zhangsan"), as_scalar("007")
    ('zhangsan', '"007"')
    """
    with suppress(yaml.YAMLError):
        if _document(text) == text:
            return text
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=MAX_BYTES).rstrip("\n")


def _document(text: str) -> Any:
    builder = _Builder()
    started = False
    for event in yaml.parse(text, Loader=PARSER):
        if isinstance(event, yaml.DocumentStartEvent):
            if started:
                raise _problem("there is more than one document", event)
            started = True
        elif isinstance(event, yaml.CollectionEndEvent):
            builder.close()
        elif isinstance(event, yaml.NodeEvent):
            builder.add(event)
    return builder.root


class _Builder:
    """Puts a document together; its stack is a list, so that no depth can overflow it."""

    def __init__(self) -> None:
        self.root: Any = None
        self._blocks: list[dict[str, Any] | list[Any]] = []
        self._keys: list[str | None] = []  # of each open block, the key whose value comes next

    def add(self, event: Any) -> None:
        block = self._blocks[-1] if self._blocks else None
        if isinstance(block, dict) and self._keys[-1] is None:
            self._keys[-1] = _key(event, block)
            return
        value = _value(event)
        if isinstance(block, dict):
            block[str(self._keys[-1])] = value
            self._keys[-1] = None
        elif isinstance(block, list):
            block.append(value)
        else:
            self.root = value
        if isinstance(value, dict | list):
            if len(self._blocks) == MAX_DEPTH:
                raise _problem(f"it is nested deeper than {MAX_DEPTH} levels", event)
            self._blocks.append(value)
            self._keys.append(None)

    def close(self) -> None:
        self._blocks.pop()
        self._keys.pop()


def _key(event: Any, block: Mapping[str, Any]) -> str:
    _refuse_extras(event)
    if not isinstance(event, yaml.ScalarEvent):
        raise _problem("a key is a list or mapping; quote text that begins with [ or {", event)
    if event.value in block:
        raise _problem(f"key {event.value!r} is given twice", event)
    return str(event.value)


def _value(event: Any) -> Any:
    _refuse_extras(event)
    if isinstance(event, yaml.MappingStartEvent):
        return {}
    if isinstance(event, yaml.SequenceStartEvent):
        return []
    text = str(event.value)
    if not event.implicit[0]:  # quoted, or a block of lines
        return text
    if text in WORDS:
        return WORDS[text]
    if len(text) <= MAX_NUMBER and INTEGER.fullmatch(text):
        return int(text)
    if len(text) <= MAX_NUMBER and FLOAT.fullmatch(text):
        return float(text)
    return text


def _refuse_extras(event: Any) -> None:
    if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
        raise _problem("anchors and aliases are not used here", event)
    if event.tag is not None:
        raise _problem(f"tag {event.tag!r} is not used here", event)


def _problem(message: str, event: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=message, problem_mark=event.start_mark)


def edit(path: Path, changes: Mapping[str, Any], check: Callable[[dict[str, Any]], object]) -> None:
    """Set values by dotted key (``base.revision``) and keep comments, order and quotes.

    Args:
        path: of the file.
        changes: dotted key -> value.
        check: is given the document as it would be; what it raises leaves the file as it was.

    Raises:
        InvalidFileError: the file is not valid, or a key leads through a value that is no mapping.
    """
    text = edited(read_own(path, max_bytes=MAX_BYTES), changes, path)
    check(parse(text, path))
    write_atomically(path, text)


def edited(text: str, changes: Mapping[str, Any], path: Path) -> str:
    """The text of a YAML mapping with values set by dotted key; errors name ``path``."""

    def change(document: Any) -> None:
        for dotted, value in changes.items():
            _set(document, dotted, value, path)

    return reworked(text, change, path)


def reworked(text: str, change: Callable[[Any], None], path: Path) -> str:
    """The text of a YAML mapping after a change of its document; comments stay where they are."""
    from ruamel.yaml import YAML

    parse(text, path)
    editor = YAML()
    editor.width = max(120, *map(len, text.splitlines()))
    editor.preserve_quotes = True
    if re.search(r"^ +- ", text, re.MULTILINE):
        editor.indent(mapping=2, sequence=4, offset=2)
    document = editor.load(text)
    change(document)
    stream = io.StringIO()
    editor.dump(document, stream)
    return stream.getvalue()


def text_of(document: Mapping[str, Any]) -> str:
    """A mapping as YAML, in its own order; 张三 stays 张三."""
    from ruamel.yaml import YAML

    stream, writer = io.StringIO(), YAML()
    writer.width = 120
    writer.dump(dict(document), stream)
    return stream.getvalue()


def changed(path: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Read a document as ``edit`` would leave it; the file stays as it is."""
    document = load(path)
    for dotted, value in changes.items():
        _set(document, dotted, value, path)
    return document


def _set(document: Any, dotted: str, value: Any, path: Path) -> None:
    *parents, key = dotted.split(".")
    if not all([*parents, key]):
        raise InvalidFileError(f"{dotted!r} is no key", fix="write it as lora.rank")
    place = document
    for parent in parents:
        if place.get(parent) is None:
            place[parent] = {}
        place = place[parent]
        if not isinstance(place, dict):
            raise InvalidFileError(
                f"{path.parent.name}/{path.name}: cannot set {dotted}",
                why=f"{parent} is {place!r}, not a mapping",
                fix=f"write {parent} as a mapping first",
            )
    place[key] = value
