"""Whether files are as they were: what a stat says of them, in one short text.

Inode, size, mtime and ctime: no user can set a file's ctime back, so an edit shows even when size
and mtime are those from before. A file that changed within the last two seconds may change again
within one tick of its clock, so what was learned of it then is not to be remembered ("racy git").
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lorareg.registry.digest import RACY_SECONDS


@dataclass(frozen=True)
class Stamp:
    """What a look at some files showed.

    Attributes:
        text: another one whenever a file was changed, added or removed.
        changed: when the last of these changes was, seconds since 1970.
    """

    text: str
    changed: float

    @property
    def is_settled(self) -> bool:
        """Whether the last change is long enough ago that a later one would show."""
        return time.time() - self.changed > RACY_SECONDS


def of(root: str, names: Iterable[str]) -> Stamp:
    """Look at files and folders, all the way down; a file that is not there counts too.

    Args:
        root: folder that the names start at.
        names: relative POSIX paths; the same ones in the same order give the same stamp.
    """
    seen: list[str] = []
    changed = 0.0
    for name in names:
        for state, when in _states(f"{root}/{name}", name):
            seen.append(state)
            changed = max(changed, when)
    return Stamp(hashlib.blake2b("\n".join(seen).encode(), digest_size=16).hexdigest(), changed)


def _states(path: str, name: str) -> Iterator[tuple[str, float]]:
    try:
        stat = os.stat(path)
    except OSError as error:
        yield f"{error.errno} {name!r}", 0.0
        return
    state = f"{stat.st_ino}.{stat.st_size}.{stat.st_mtime_ns}.{stat.st_ctime_ns}.{stat.st_dev}"
    yield f"{state} {name!r}", stat.st_ctime
    if stat.st_mode & 0o170000 == 0o040000:
        try:
            inner = sorted(os.listdir(path))
        except OSError as error:
            inner = [f"errno {error.errno}"]
        for each in inner:
            yield from _states(f"{path}/{each}", each)
