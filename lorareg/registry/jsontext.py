"""JSON that can be read in one way only: no key twice, no NaN, no half characters."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def parse(text: str, *, finite: bool = True) -> Any:
    """Read a JSON document.

    Args:
        text: the document.
        finite: whether NaN and infinity, which Python writes, are refused.

    Raises:
        ValueError: not JSON, a key given twice in one object, NaN or infinity, an escaped half of
            a surrogate pair (which no UTF-8 file can hold), or nested too deeply.
    """
    try:
        refuse = _no_number if finite else None
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=refuse)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, value in pairs:
        if name in table:
            raise ValueError(f"key {name[:80]!r} is given twice")
        table[name] = value
    return table


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
