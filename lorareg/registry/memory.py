"""What was computed once and need not be again: a table of texts in a SQLite file.

Safe between processes. A locked, damaged or lost file costs time only; every row is sealed, so that
one in which a bit turned over is not believed.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Collection, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

SEAL = 16  # characters before each value
AT_A_TIME = 500  # keys of a query; SQLite before 3.32 takes at most 999


@dataclass(frozen=True)
class Memory:
    """One table: key -> value.

    Attributes:
        path: of the SQLite file; None remembers nothing.
        table, key, value: names of the table and its two columns.
    """

    path: Path | None
    table: str
    key: str
    value: str

    def recall(self, keys: Collection[str]) -> dict[str, str]:
        """What is known of these keys."""
        if self.path is None or not self.path.is_file():
            return {}
        wanted, found = list(keys), dict[str, str]()
        try:
            with closing(sqlite3.connect(self.path, timeout=30)) as database:
                for start in range(0, len(wanted), AT_A_TIME):
                    some = wanted[start : start + AT_A_TIME]
                    rows = database.execute(self._query(len(some)), some)
                    found.update((key, row[SEAL:]) for key, row in rows if _is_sealed(key, row))
        except sqlite3.Error as error:
            self._forget_if_damaged(self.path, error)
            return {}
        return found

    def remember(self, learned: Mapping[str, str]) -> None:
        """Add or replace values."""
        if self.path is None or not learned:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=30)) as database, database:
                database.execute(
                    f"create table if not exists {self.table}"
                    f" ({self.key} text primary key, {self.value} text) without rowid"
                )
                database.executemany(
                    f"insert or replace into {self.table} values (?, ?)",
                    [(key, _seal(key, value) + value) for key, value in learned.items()],
                )
        except (sqlite3.Error, OSError) as error:
            self._forget_if_damaged(self.path, error)

    def _query(self, count: int) -> str:
        marks = ",".join("?" * count)
        return f"select {self.key}, {self.value} from {self.table} where {self.key} in ({marks})"

    def _forget_if_damaged(self, path: Path, error: Exception) -> None:
        if type(error) is sqlite3.DatabaseError:  # its subclasses mean locked, full, read-only
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _seal(key: str, value: str) -> str:
    return hashlib.blake2b(f"{key}\n{value}".encode(), digest_size=SEAL // 2).hexdigest()


def _is_sealed(key: object, row: object) -> bool:
    """Whether it is what was remembered; SQLite may give back any type."""
    if not isinstance(key, str) or not isinstance(row, str):
        return False
    return row[:SEAL] == _seal(key, row[SEAL:])
