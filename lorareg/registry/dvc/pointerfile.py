"""Writing a ``.dvc`` file in the form that ``dvc add`` gives it."""

from __future__ import annotations

import io
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorareg.registry.dvc.pointer import MAX_BYTES, Pointer
from lorareg.registry.files import read_utf8

PLAIN_NAME = re.compile(r"weights|[a-z]+_[a-z_]+")  # needs no quotes in YAML


def write(pointer: Pointer, scratch: Path) -> None:
    """Write a .dvc file as ``dvc add`` does; what people added to it stays.

    It appears whole or not at all; whoever writes many makes them last (``os.sync``) at the end.

    Args:
        pointer: what to say.
        scratch: folder on the same disk, where a kill may leave a file behind.
    """
    facts: dict[str, Any] = {"md5": pointer.md5, "size": pointer.size}
    facts |= {"nfiles": pointer.nfiles} if pointer.is_folder else {}
    facts |= {"hash": "md5", "path": pointer.path.name}
    facts |= {"remote": pointer.remote} if pointer.remote else {}
    known = read_utf8(pointer.file, max_bytes=MAX_BYTES) if pointer.file.is_file() else ""
    if pointer.is_folder and PLAIN_NAME.fullmatch(pointer.path.name) and _is_plain(known):
        lines = [f"  {key}: {value}\n" for key, value in facts.items()]
        text = "outs:\n-" + "".join(lines)[1:]
    else:
        text = _edited(known, facts)
    put_in_place(pointer.file, text, scratch)


def put_in_place(file: Path, text: str, scratch: Path) -> None:
    """Replace a small file by way of ``scratch``, so that no leftover lies where git looks."""
    temporary = scratch / f"{secrets.token_hex(12)}.tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _is_plain(text: str) -> bool:
    """Whether a .dvc file holds nothing but the keys that are written anew."""
    keys = {line.lstrip("- ").partition(":")[0] for line in text.splitlines()}
    return keys <= {"outs", "md5", "size", "nfiles", "hash", "path", "remote"}


def _edited(known: str, facts: Mapping[str, Any]) -> str:
    from ruamel.yaml import YAML

    editor = YAML()
    document = editor.load(known) if known else {"outs": [{}]}
    out = document["outs"][0]
    for key in {"md5", "size", "nfiles", "remote"} & (out.keys() - facts.keys()):
        del out[key]
    out.update(facts)
    stream = io.StringIO()
    editor.dump(document, stream)
    return stream.getvalue()
