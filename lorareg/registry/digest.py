"""Digests: SHA-256 everywhere, always written with the name of what was hashed.

``sha256:<hex>`` is the plain hash of bytes. Composite digests name their recipe and its version, so
that a later recipe can never be mistaken for an earlier one: ``tree-sha256-v1`` (files by name),
``tensors-sha256-v1`` (tensors by name), ``base-sha256-v1``, ``fingerprint-sha256-v1``.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
import unicodedata
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from lorareg.errors import InvalidFileError

CHUNK = 1 << 20  # bytes read at a time
RACY_SECONDS = 2.0  # a file changed this recently may change again within one tick of its clock


def of_bytes(data: bytes) -> str:
    """Digest of bytes.

    >>> of_bytes(b"")[:14]
    'sha256:e3b0c44'
    """
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def of_file(path: Path) -> str:
    """Digest of a file's bytes, read in chunks.

    Raises:
        InvalidFileError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
    except OSError as error:
        raise _unreadable(path, error) from error


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
    remembered: it may change again within one tick of the clock ("racy git"). The cache is a
    SQLite file, safe between processes; a locked, damaged or lost one costs time only.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def digests(self, files: Mapping[str, Path]) -> dict[str, str]:
        """Return the digest of each named file.

        Raises:
            InvalidFileError: a file cannot be read.
        """
        if self._path is None:
            return {name: of_file(path) for name, path in files.items()}
        states = {name: _state(path)[0] for name, path in files.items()}
        known = self._recall(self._path, set(states.values()))
        found: dict[str, str] = {}
        learned: dict[str, str] = {}
        for name, path in files.items():
            if states[name] in known:
                found[name] = known[states[name]]
                continue
            found[name] = of_file(path)
            state, changed = _state(path)
            if state == states[name] and time.time() - changed > RACY_SECONDS:
                learned[state] = found[name]
        if learned:
            self._remember(self._path, learned)
        return found

    def _recall(self, path: Path, states: set[str]) -> dict[str, str]:
        if not path.is_file():
            return {}
        query = "select state, digest from seen where state = ?"
        try:
            with closing(sqlite3.connect(path, timeout=30)) as database:
                rows = (database.execute(query, (state,)).fetchone() for state in states)
                return dict(row for row in rows if row)
        except sqlite3.Error as error:
            self._forget_if_damaged(path, error)
            return {}

    def _remember(self, path: Path, learned: Mapping[str, str]) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(path, timeout=30)) as database, database:
                database.execute(
                    "create table if not exists seen (state text primary key, digest text)"
                    " without rowid"
                )
                database.executemany("insert or replace into seen values (?, ?)", learned.items())
        except (sqlite3.Error, OSError) as error:
            self._forget_if_damaged(path, error)

    def _forget_if_damaged(self, path: Path, error: Exception) -> None:
        if type(error) is sqlite3.DatabaseError:  # its subclasses mean locked, full, read-only
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _state(path: Path) -> tuple[str, float]:
    """What changes whenever the file does, and the time of its last change."""
    try:
        stat = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return f"{stat.st_ino}.{stat.st_size}.{stat.st_mtime_ns}.{stat.st_ctime_ns}", stat.st_ctime


def _unreadable(path: Path, error: OSError) -> InvalidFileError:
    return InvalidFileError(
        f"cannot read {path.name}",
        why=f"{error.strerror} ({path})",
        fix="check that the file is there and that you may read it",
    )
