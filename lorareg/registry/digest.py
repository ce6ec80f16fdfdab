"""Digests: SHA-256 everywhere, always written with the name of what was hashed.

``sha256:<hex>`` is the plain hash of bytes. Composite digests name their recipe and its version, so
that a later recipe can never be mistaken for an earlier one: ``tree-sha256-v1`` (files by name),
``tensors-sha256-v1`` (tensors by name), ``base-sha256-v1``, ``fingerprint-sha256-v1``.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import unicodedata
from collections.abc import Callable, Mapping
from io import FileIO
from os import PathLike
from pathlib import Path
from stat import S_ISREG
from typing import Any

from lorareg.errors import InvalidFileError
from lorareg.registry.memory import Memory

CHUNK = 1 << 20  # bytes of a large file that are read at a time
SMALL = 1 << 18  # bytes; up to this a file is read at once
RACY_SECONDS = 2.0  # a file changed this recently may change again within one tick of its clock


def of_bytes(data: bytes) -> str:
    """Digest of bytes.

    >>> of_bytes(b"")[:14]
    'sha256:e3b0c44'
    """
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def of_file(path: PathLike[str]) -> str:
    """Digest of a file's bytes; a large file is read in chunks.

    Raises:
        InvalidFileError: it cannot be read.
    """
    try:
        with plain_file(path) as stream:
            if os.fstat(stream.fileno()).st_size <= SMALL:  # most pictures: 1.4 times as fast
                return of_bytes(stream.read())
            return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
    except OSError as error:
        raise _unreadable(path, error) from error


def plain_file(path: PathLike[str]) -> FileIO:
    """Open a file for reading, without waiting where it is a pipe that nobody writes to.

    Raises:
        OSError: it cannot be opened.
        InvalidFileError: a pipe, a socket or a device.
    """
    stream = open(path, "rb", buffering=0, opener=_promptly)  # noqa: SIM115
    if S_ISREG(os.fstat(stream.fileno()).st_mode):
        return stream
    stream.close()
    raise InvalidFileError(
        f"{os.path.basename(path)} is no plain file",
        why=f"{os.fspath(path)} is a pipe, a socket or a device",
        fix=f"rm '{os.fspath(path)}'",
    )


def _promptly(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def canonical_json(value: Any) -> bytes:
    """One byte string for one value: sorted keys, no spaces, UTF-8, no NaN.

    >>> canonical_json({"b": 1, "a": "张"}).decode()
    '{"a":"张","b":1}'
    """
    text = json.dumps(
        value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )
    return text.encode()


def of_json(value: Any, algorithm: str = "sha256") -> str:
    """Digest of a value's canonical JSON."""
    return f"{algorithm}:{hashlib.sha256(canonical_json(value)).hexdigest()}"


def of_tree(files: Mapping[str, str], algorithm: str = "tree-sha256-v1") -> str:
    """Digest of named files, independent of the order and of the folder they are in.

    Args:
        files: relative POSIX path -> file digest. Paths are compared in Unicode NFC, since macOS
            hands them out decomposed.
        algorithm: name of the digest.
    """
    named = sorted((unicodedata.normalize("NFC", name), digest) for name, digest in files.items())
    return of_json(named, algorithm)


class DigestCache:
    """Remembers file digests by (inode, size, mtime, ctime): a warm rehash costs a stat a file.

    No user can set a file's ctime back, so an edit shows even when size and mtime are those from
    before (``cp -p``, an unpacked archive). A file changed within the last two seconds is never
    remembered: it may change again within one tick of the clock ("racy git").
    """

    def __init__(
        self,
        path: Path | None,
        table: str = "seen",
        measure: Callable[[PathLike[str]], str] = of_file,
    ) -> None:
        self._memory = Memory(path, table, "state", "digest")
        self._measure = measure

    def digests(self, files: Mapping[str, PathLike[str]]) -> dict[str, str]:
        """Return the digest of each named file.

        Raises:
            InvalidFileError: a file cannot be read.
        """
        if self._memory.path is None:
            return {name: self._measure(path) for name, path in files.items()}
        states = {name: _state(path)[0] for name, path in files.items()}
        known = self._memory.recall(set(states.values()))
        found: dict[str, str] = {}
        learned: dict[str, str] = {}
        for name, path in files.items():
            if states[name] in known:
                found[name] = known[states[name]]
                continue
            found[name] = self._measure(path)
            state, changed = _state(path)
            if state == states[name] and time.time() - changed > RACY_SECONDS:
                learned[state] = found[name]
        self._memory.remember(learned)
        return found


def _state(path: PathLike[str]) -> tuple[str, float]:
    """What changes whenever the file does, and the time of its last change."""
    try:
        stat = os.stat(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    return f"{stat.st_ino}.{stat.st_size}.{stat.st_mtime_ns}.{stat.st_ctime_ns}", stat.st_ctime


def _unreadable(path: PathLike[str], error: OSError) -> InvalidFileError:
    return InvalidFileError(
        f"cannot read {os.path.basename(path)}",
        why=f"{error.strerror} ({os.fspath(path)})",
        fix="check that the file is there and that you may read it",
    )
