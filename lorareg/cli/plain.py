"""What others wrote, made safe to show: no character of it moves the cursor or hides text."""

from __future__ import annotations

import re
from typing import Any

from rich.console import Console

# Control characters of both kinds but tab and line end (a terminal acts on them: it clears, hides,
# retitles), and those that turn the direction of text, so that it reads otherwise than it is.
_ACTING = [*(code for code in range(32) if chr(code) not in "\t\n"), *range(127, 160)]
_TURNING = [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]
SHOWN = {code: f"\\x{code:02x}" for code in _ACTING} | {code: f"\\u{code:04x}" for code in _TURNING}
IN_JSON = {code: f"\\u{code:04x}" for code in (*range(127, 160), *_TURNING)}
"""What JSON would let through as it is; the rest it escapes itself."""
_UNSAFE = re.compile(f"[{''.join(map(re.escape, map(chr, SHOWN)))}]")
_UNSAFE_IN_JSON = re.compile(f"[{''.join(map(re.escape, map(chr, IN_JSON)))}]")

PASSWORD = re.compile(r"(://[^/@:\s\"']*):[^/@\s\"']+@")


def plain(text: str) -> str:
    r"""The text with such characters spelled out, and without passwords in addresses.

    >>> print(plain("a\x1b[2Jb of s3://ann:secret@host/x"))
    a\x1b[2Jb of s3://ann:***@host/x
    """
    text = PASSWORD.sub(r"\1:***@", text) if "://" in text else text
    return text.translate(SHOWN) if _UNSAFE.search(text) else text


def plain_json(text: str) -> str:
    """The same for a JSON document, in JSON's own escapes."""
    text = PASSWORD.sub(r"\1:***@", text) if "://" in text else text
    return text.translate(IN_JSON) if _UNSAFE_IN_JSON.search(text) else text


class PlainConsole(Console):
    """A console whose strings are plain; colours are markup, never a string's own codes."""

    def print(self, *objects: Any, **settings: Any) -> None:
        """Print, strings made plain."""
        super().print(*(plain(o) if isinstance(o, str) else o for o in objects), **settings)
