"""Ways to spoil a file: every one takes the dice, and leaves something that git or a disk could."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

Damage = Callable[[random.Random, Path, Path], None]  # dice, file, a folder outside
SCALARS: list[Any] = [
    None, True, -1, 0, 10**400, 1e308, "", "\x00", "\ud83d", "x" * 100_000, [], {}, [[[]]],
    {"a": {"b": [1]}}, "../../outside", "/etc/passwd", "v1.0.0", "sha256:" + "0" * 64,
    "[red]x[/red]", "\x1b[2J\x9b31m", "a\nb", "-rf", "::", "9999-99-99", "\u202e",
]  # fmt: skip


def flipped(dice: random.Random, file: Path, outside: Path) -> None:
    """A few bytes are others."""
    data = bytearray(file.read_bytes() or b"x")
    for _ in range(dice.randint(1, 6)):
        data[dice.randrange(len(data))] = dice.randrange(256)
    file.write_bytes(data)


def cut(dice: random.Random, file: Path, outside: Path) -> None:
    """It ends early."""
    data = file.read_bytes()
    file.write_bytes(data[: dice.randrange(max(1, len(data)))])


def empty(dice: random.Random, file: Path, outside: Path) -> None:
    """Nothing is in it."""
    file.write_bytes(b"")


def nul(dice: random.Random, file: Path, outside: Path) -> None:
    """Zeros, as a power cut leaves them."""
    data = file.read_bytes()
    file.write_bytes(dice.choice([b"\0" * len(data), data + b"\0", data[:40] + b"\0" + data[40:]]))


def not_utf8(dice: random.Random, file: Path, outside: Path) -> None:
    """Bytes of another encoding."""
    data = file.read_bytes()
    place = dice.randrange(len(data) + 1)
    bad = dice.choice([b"\xff", b"\xc3\x28", b"\xed\xa0\x80", "张三".encode("gbk"), b"\xf8"])
    file.write_bytes(data[:place] + bad + data[place:])


def other_breaks(dice: random.Random, file: Path, outside: Path) -> None:
    """Windows line ends, a byte-order mark, or UTF-16."""
    data = file.read_bytes()
    forms = [data.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + data, data.replace(b"\n", b"\r")]
    forms.append(data.decode("utf-8", "replace").encode("utf-16"))
    file.write_bytes(dice.choice(forms))


def conflict(dice: random.Random, file: Path, outside: Path) -> None:
    """What a merge leaves behind."""
    lines = file.read_text("utf-8", "replace").splitlines() or [""]
    place = dice.randrange(len(lines))
    marks = ["<<<<<<< HEAD", lines[place], "=======", lines[place] + "x", ">>>>>>> theirs"]
    file.write_text("\n".join(lines[:place] + marks + lines[place + 1 :]) + "\n")


def doubled(dice: random.Random, file: Path, outside: Path) -> None:
    """A line twice, or everything twice."""
    text = file.read_text("utf-8", "replace")
    lines = text.splitlines(keepends=True) or [""]
    place = dice.randrange(len(lines))
    twice = "".join(lines[: place + 1] + lines[place:])
    file.write_text(dice.choice([twice, text + text]))


def retyped(dice: random.Random, file: Path, outside: Path) -> None:
    """A value of another kind somewhere; in a file that is no JSON, anywhere after a colon."""
    text = file.read_text("utf-8", "replace")
    value = dice.choice(SCALARS)
    shown = json.dumps(value).replace("NaN", "null")
    if file.suffix == ".jsonl":
        lines = text.splitlines() or [""]
        place = dice.randrange(len(lines))
        lines[place] = _retyped_json(dice, lines[place], value) or shown
        file.write_text("\n".join(lines) + "\n")
        return
    as_json = _retyped_json(dice, text, value)
    if as_json is None:
        spots = [match.span(1) for match in re.finditer(r"[:=] *([^\n]*)", text)] or [(0, 0)]
        start, end = dice.choice(spots)
        as_json = text[:start] + shown + text[end:]
    file.write_text(as_json)


def not_finite(dice: random.Random, file: Path, outside: Path) -> None:
    """NaN, infinity or far too many digits in place of a number."""
    text = file.read_text("utf-8", "replace")
    spots = [match.span() for match in re.finditer(r"\d+(\.\d+)?", text)] or [(0, 0)]
    start, end = dice.choice(spots)
    value = dice.choice(["NaN", "Infinity", "-Infinity", "1e999", ".nan", ".inf", "9" * 5000, "-0"])
    file.write_text(text[:start] + value + text[end:])


def without(dice: random.Random, file: Path, outside: Path) -> None:
    """A line, or a key of JSON, is missing."""
    text = file.read_text("utf-8", "replace")
    try:
        document = json.loads(text)
        table = dice.choice(_tables(document))
        table.pop(dice.choice(sorted(table)))
        file.write_text(json.dumps(document))
    except (ValueError, IndexError):
        lines = text.splitlines(keepends=True) or [""]
        del lines[dice.randrange(len(lines))]
        file.write_text("".join(lines))


def nested(dice: random.Random, file: Path, outside: Path) -> None:
    """Deeper than any recursion."""
    file.write_text(dice.choice(["[" * 100_000, '{"a":' * 100_000, "- " * 50_000, "a: {" * 9000]))


def scalar(dice: random.Random, file: Path, outside: Path) -> None:
    """A list or a word in place of a mapping."""
    file.write_text(dice.choice(["[]", "null", "3", '"text"', "- a\n- b\n", "{}", "[{}]", "~"]))


def gone(dice: random.Random, file: Path, outside: Path) -> None:
    """It is not there."""
    file.unlink()


def folder(dice: random.Random, file: Path, outside: Path) -> None:
    """A folder of that name."""
    file.unlink()
    (file / "inner").mkdir(parents=True)


def fifo(dice: random.Random, file: Path, outside: Path) -> None:
    """A pipe that nobody writes to: who opens it waits for ever."""
    file.unlink()
    os.mkfifo(file)


def linked_out(dice: random.Random, file: Path, outside: Path) -> None:
    """A link to somebody's file elsewhere."""
    file.unlink()
    file.symlink_to(outside / dice.choice(["passwd", "secret.yaml", "secret.json", "folder"]))


def linked_far(dice: random.Random, file: Path, outside: Path) -> None:
    """A link to a device, to nothing, or to itself."""
    target = dice.choice(["/dev/zero", "/dev/null", "/nowhere", file.name, "/proc/self/environ"])
    file.unlink()
    file.symlink_to(target)


def another(dice: random.Random, file: Path, outside: Path) -> None:
    """A copy of another file of the registry."""
    others = [p for p in sorted(file.parent.rglob("*")) if p.is_file() and p != file]
    if others:
        shutil.copy(dice.choice(others), file)


DAMAGES: tuple[Damage, ...] = (
    flipped, cut, empty, nul, not_utf8, other_breaks, conflict, doubled, retyped, retyped,
    not_finite, without, nested, scalar, gone, folder, fifo, linked_out, linked_far, another,
)  # fmt: skip


def _tables(value: Any) -> list[dict[str, Any]]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    found = [table for each in inner for table in _tables(each)]
    return [*found, value] if isinstance(value, dict) and value else found


def _retyped_json(dice: random.Random, text: str, value: Any) -> str | None:
    try:
        document = json.loads(text)
        table = dice.choice(_tables(document))
    except (ValueError, IndexError):
        return None
    key = dice.choice(sorted(table))
    if dice.random() < 0.2:
        table[json.dumps(value)[:50]] = table.pop(key)
    else:
        table[key] = value
    return json.dumps(document)
